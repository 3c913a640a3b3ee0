#include "cli/user/prune_request.h"

#include <stdio.h>
#include <unistd.h>

#include "base/text.h"

int prune_request(const struct view *v, const struct conf *c, bool dry_run, struct err *err)
{
	char size[32];

	if (!v->on_disk)
		return err_set(err, v->disk_err.num, "%s", v->disk_err.text);
	if (v->rec.uid != geteuid())
		return err_set(err, 0, "only root and the job's owner can have its epochs removed");
	if (!dry_run && store_ask_removal(c->dir, v->id, err) < 0)
		return -1;
	printf("job %s: %s for the removal of %u epoch%s (%s)\n", v->label, dry_run ? "would ask" : "asked",
	       v->rec.n_epochs, v->rec.n_epochs == 1 ? "" : "s", format_size(record_bytes(&v->rec), size, sizeof(size)));
	return 0;
}

void prune_request_explain(void)
{
	puts("Epochs belong to root. They are removed when an administrator runs: fsched prune --ended --requested --all --yes");
}
