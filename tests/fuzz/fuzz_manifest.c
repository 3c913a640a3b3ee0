/* manifest.json of an epoch. */
#include "fuzz.h"
#include "store/manifest.h"
#include "store/store_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct manifest m;

	if (manifest_parse((const char *)data, size, &m, NULL) == 0)
		manifest_free(&m);
	return 0;
}
