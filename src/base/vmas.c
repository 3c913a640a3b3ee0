#include "base/array.h"
#include "base/vmas.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "base/io.h"
#include "base/util.h"

#define MAPS_MAX (256u << 20)

/* True for the names that the kernel gives to anonymous memory: none, the heap, a name set by prctl(PR_SET_VMA). Other
 * names in brackets are mappings of the kernel's own. */
static bool vma_is_anonymous(const char *name)
{
	return !name[0] || !strcmp(name, "[heap]") || !strncmp(name, "[anon:", 6);
}

static int vmas_parse_line(const char *line, struct vma *v)
{
	uint64_t inode;
	char perms[5];
	const char *name;
	int end = 0;

	if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*x:%*x %" SCNu64 "%n", &v->start, &v->end, perms, &inode,
		   &end) != 4)
		return -1;
	name = line + end + strspn(line + end, " ");
	v->plain = inode == 0 && vma_is_anonymous(name) && perms[0] == 'r' && perms[1] == 'w' && perms[3] == 'p';
	v->executable = perms[0] == 'r' && perms[2] == 'x';
	v->vdso = !strcmp(name, "[vdso]");
	v->stack = !strcmp(name, "[stack]");
	v->aio = !strncmp(name, "/[aio]", 6);
	return v->start < v->end ? 0 : -1;
}

/* In smaps, lines of details follow each mapping. They begin with a capital letter; the line of a mapping begins with a
 * lower-case hexadecimal number. */
static bool vmas_parse_detail(const char *line, struct vmas *m)
{
	uint64_t kib;

	if (*line < 'A' || *line > 'Z')
		return false;
	if (m->n && sscanf(line, "Anonymous: %" SCNu64, &kib) == 1)
		m->v[m->n - 1].anon = kib * 1024;
	if (m->n && sscanf(line, "AnonHugePages: %" SCNu64, &kib) == 1)
		m->v[m->n - 1].huge = kib * 1024;
	if (m->n && !strncmp(line, "VmFlags:", 8))
		m->v[m->n - 1].on_fault = strstr(line, " lf") != NULL;
	return true;
}

static int vmas_read_file(pid_t pid, const char *name, struct vmas *m, struct err *err)
{
	cleanup_free char *text = NULL;
	char path[64], *line, *next;
	size_t room = 0;

	*m = (struct vmas){ 0 };
	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	if (read_file_at(AT_FDCWD, path, MAPS_MAX, &text) < 0)
		return err_sys(err, errno, "cannot read %s", path);
	for (line = text; *line; line = next) {
		next = strchrnul(line, '\n');
		if (*next)
			*next++ = '\0';
		if (vmas_parse_detail(line, m))
			continue;
		array_reserve(m->v, m->n, room);
		m->v[m->n] = (struct vma){ 0 };
		if (vmas_parse_line(line, &m->v[m->n])) {
			vmas_free(m);
			return err_set(err, EBADMSG, "%s cannot be understood", path);
		}
		m->n++;
	}
	return 0;
}

int vmas_read(pid_t pid, struct vmas *m, struct err *err)
{
	return vmas_read_file(pid, "maps", m, err);
}

int vmas_read_filled(pid_t pid, struct vmas *m, struct err *err)
{
	return vmas_read_file(pid, "smaps", m, err);
}

void vmas_free(struct vmas *m)
{
	free(m->v);
	*m = (struct vmas){ 0 };
}

const struct vma *vmas_find(const struct vmas *m, uint64_t addr)
{
	size_t low = 0, high = m->n;

	while (low < high) {
		size_t mid = (low + high) / 2;

		if (m->v[mid].end <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low < m->n ? &m->v[low] : NULL;
}
