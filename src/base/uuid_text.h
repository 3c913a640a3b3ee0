/* UUIDs as text: 36 characters, lower case. Made by libuuid. */
#ifndef FSCHED_BASE_UUID_TEXT_H
#define FSCHED_BASE_UUID_TEXT_H

#include <stdbool.h>

#define UUID_TEXT_LEN 36

/* A new random UUID (RFC 4122, version 4). */
void uuid_text_new(char uuid[UUID_TEXT_LEN + 1]);
/* Exactly as uuid_text_new() writes it: no upper case, nothing behind it. */
bool uuid_text_valid(const char *text);

#endif
