/* What fsched's own records say of the checkpoints and restores of a run. */
#ifndef FSCHED_CLI_QUALIFY_MEASURE_H
#define FSCHED_CLI_QUALIFY_MEASURE_H

#include "base/conf.h"
#include "cli/qualify/qualify_data.h"

/* Reads the record and the history of the run's job and fills what they know: run_s, the times and sizes of its cycles,
 * started_over, has_record. A host without the checkpoint directory, or a job without --checkpoint, leaves all as it
 * is. */
void measure_run(const struct conf *conf, struct qualify_run *run);

#endif
