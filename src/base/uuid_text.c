#include "base/uuid_text.h"

#include <string.h>
#include <uuid.h>

void uuid_text_new(char uuid[UUID_TEXT_LEN + 1])
{
	uuid_t u;

	uuid_generate(u);
	uuid_unparse_lower(u, uuid);
}

bool uuid_text_valid(const char *text)
{
	char lower[UUID_TEXT_LEN + 1];
	uuid_t u;

	if (uuid_parse(text, u))
		return false;
	uuid_unparse_lower(u, lower);
	return strcmp(text, lower) == 0;
}
