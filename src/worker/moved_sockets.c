/* Unix sockets whose file was renamed or linked after bind(): from the library in criu (preload/moved_sockets.c) to the
 * manifest, as "sockets": [{"how": "moved" | "linked", "from", "to"}…], and at a restore back to the library. */
#include "worker/worker.h"

#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/util.h"
#include "preload/unlinked_names.h"

#define NAME_MAX_LEN 4096
#define ENV_MAX      (100 << 10) /* the kernel takes 128 KiB for one variable */

static json_t *moved_socket_of(const struct unlinked_name *e, const char *names)
{
	const size_t n = strnlen(names, e->len);
	cleanup_json json_t *o = json_pack("{s:s}", "how", e->deleted == UNLINKED_NAME_LINKED ? "linked" : "moved");

	if (n == e->len || !o || json_set_name(o, "from", names) || json_set_name(o, "to", names + n + 1))
		return NULL;
	return json_incref(o);
}

json_t *moved_sockets_read(int fd)
{
	json_t *list = json_array();
	struct unlinked_name e;
	char names[2 * NAME_MAX_LEN + 1];
	off_t at = 0;

	for (; pread(fd, &e, sizeof(e), at) == sizeof(e); at += (off_t)sizeof(e) + e.len) {
		if ((e.deleted != UNLINKED_NAME_MOVED && e.deleted != UNLINKED_NAME_LINKED) || e.len >= sizeof(names) ||
		    pread(fd, names, e.len, at + (off_t)sizeof(e)) != (ssize_t)e.len)
			continue;
		names[e.len] = '\0';
		json_array_append_new(list, moved_socket_of(&e, names));
	}
	return list;
}

int moved_sockets_env(const json_t *sockets, char **variable, struct err *err)
{
	char from[NAME_MAX_LEN], to[NAME_MAX_LEN], *more;
	size_t i;
	json_t *o;

	*variable = xstrdup("FSCHED_SOCKETS=");
	json_array_foreach(sockets, i, o) {
		const char *how = json_string_value(json_object_get(o, "how"));

		if (json_get_name(o, "from", from, sizeof(from), err) || json_get_name(o, "to", to, sizeof(to), err))
			return -1;
		more = xasprintf("%s%c%zu:%s%zu:%s", *variable, how && !strcmp(how, "linked") ? 'L' : 'M', strlen(from),
				 from, strlen(to), to);
		free(*variable);
		*variable = more;
		if (strlen(more) > ENV_MAX)
			return err_set(err, E2BIG, "the epoch has too many Unix sockets that were renamed");
	}
	return 0;
}
