/* TCP connections that leave the job and are closed in the restored job: from the driver of criu (criu/tcp_freeze.h) to
 * the manifest, as "closed": ["descriptor 5 of process 17 (python3) to 10.0.0.2:7001"...]. */
#include "worker/worker.h"

#include "base/json.h"
#include "base/text.h"
#include "base/util.h"
#include "preload/unlinked_names.h"

#define TEXT_MAX 512

json_t *closed_tcp_read(int fd)
{
	char text[TEXT_MAX], shown[TEXT_MAX];
	struct unlinked_name e;
	json_t *list = NULL;
	off_t at = 0;

	for (; pread(fd, &e, sizeof(e), at) == sizeof(e); at += (off_t)sizeof(e) + e.len) {
		if (e.deleted != UNLINKED_NAME_CLOSED || e.len >= sizeof(text) ||
		    pread(fd, text, e.len, at + (off_t)sizeof(e)) != (ssize_t)e.len)
			continue;
		text[e.len] = '\0';
		if (!list)
			list = json_array();
		json_array_append_new(list, json_text(printable(text, shown, sizeof(shown))));
	}
	return list;
}
