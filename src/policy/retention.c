#include "policy/retention.h"

unsigned retention_select(const unsigned *epochs, unsigned n, unsigned keep, unsigned newest, unsigned *gone)
{
	unsigned n_gone = 0;

	if (keep == 0)
		keep = 1;
	for (unsigned i = 0; i < n && n - n_gone > keep; i++) {
		if (epochs[i] != newest)
			gone[n_gone++] = epochs[i];
	}
	return n_gone;
}
