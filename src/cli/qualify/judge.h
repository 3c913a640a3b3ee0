/* The verdict of a qualification, from what was found alone. */
#ifndef FSCHED_CLI_QUALIFY_JUDGE_H
#define FSCHED_CLI_QUALIFY_JUDGE_H

#include "cli/qualify/qualify_data.h"

/* A program that runs for less than this is too short to tell by how much checkpoints slow it down, s. */
#define JUDGE_MEASURABLE_S 20

/* Fills verdict, reasons, remarks, advice, untested and the measures. */
void judge(struct qualify_result *r);

/* The verdict as a sentence. buf: of at least 400 bytes. Returns buf. */
char *judge_sentence(const struct qualify_result *r, char *buf, size_t len);
/* What the failures of the failed run are, for people. */
const char *judge_fail_about(enum qualify_fail f);

#endif
