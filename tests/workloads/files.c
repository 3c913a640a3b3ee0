/* files STEPS DIR [named]: touches every kind of file that a checkpoint has to keep
 * consistent, all in DIR but for the private /tmp and /dev/shm:
 *   append.log   O_APPEND            seq.out     O_WRONLY, sequential
 *   header.dat   O_WRONLY, header rewritten at each step
 *   inplace.dat  O_RDWR, read-modify-write
 *   mapped.dat   MAP_SHARED          ghost       unlinked, still open; "named": it keeps its name
 * At the end the contents of the hidden ones are printed as checksums. */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "workload.h"

#define CELLS 4096

static int at(const char *dir, const char *name, int flags)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, flags | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		die(path);
	return fd;
}

static uint64_t *shared_map(int fd)
{
	uint64_t *p;

	if (ftruncate(fd, CELLS * 8))
		die("ftruncate");
	p = mmap(NULL, CELLS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static void put(int fd, const void *buf, size_t n, off_t at_off)
{
	ssize_t r = at_off < 0 ? write(fd, buf, n) : pwrite(fd, buf, n, at_off);

	if (r != (ssize_t)n)
		die("write");
}

static uint64_t update(int fd, int k)
{
	uint64_t v = 0;
	off_t off = (k * 37 % CELLS) * 8;

	if (pread(fd, &v, 8, off) < 0)
		die("pread");
	v = mix(v, (uint64_t)k);
	put(fd, &v, 8, off);
	/* the first cell changes at every step, so that running on after a
	 * checkpoint always spoils a file that is not put back */
	if (pread(fd, &v, 8, 0) < 0)
		die("pread");
	v = mix(v + 1, (uint64_t)k);
	put(fd, &v, 8, 0);
	return v;
}

static uint64_t sum(const uint64_t *p)
{
	uint64_t h = 0;

	for (int i = 0; i < CELLS; i++)
		h = mix(h, p[i]);
	return h;
}

int main(int argc, char **argv)
{
	int steps, app, seq, head, inpl, ghost, tmp;
	uint64_t *mapped, *shm;
	char path[4096], line[128];

	if (argc < 3)
		return 2;
	steps = atoi(argv[1]);
	app = at(argv[2], "append.log", O_WRONLY | O_APPEND);
	seq = at(argv[2], "seq.out", O_WRONLY);
	head = at(argv[2], "header.dat", O_WRONLY);
	inpl = at(argv[2], "inplace.dat", O_RDWR);
	mapped = shared_map(at(argv[2], "mapped.dat", O_RDWR));
	ghost = at(argv[2], "ghost", O_RDWR);
	snprintf(path, sizeof(path), "%s/ghost", argv[2]);
	if (argc == 3)
		unlink(path);
	tmp = at("/tmp", "fsched-test-private", O_RDWR);
	shm = shared_map(at("/dev/shm", "fsched-test-private", O_RDWR));
	for (int k = 0; k < steps; k++) {
		uint64_t h;
		int n;

		h = update(inpl, k) ^ update(ghost, k) ^ update(tmp, k);
		mapped[k % CELLS] = mix(mapped[0], (uint64_t)k);
		mapped[0] = mix(mapped[0], mapped[k % CELLS]);
		shm[k % CELLS] = mix(shm[0], (uint64_t)k);
		shm[0] = mix(shm[0], shm[k % CELLS]);
		h ^= mapped[0] ^ shm[0];
		n = snprintf(line, sizeof(line), "%d %016llx\n", k, (unsigned long long)h);
		put(app, line, (size_t)n, -1);
		put(seq, line, (size_t)n, -1);
		put(head, line, (size_t)n, k ? lseek(head, 0, SEEK_END) : 64);
		put(head, &k, sizeof(k), 0);
		lseek(head, 0, SEEK_SET);
		step_line(k, h);
		pace();
	}
	printf("mapped %016llx shm %016llx\n", (unsigned long long)sum(mapped), (unsigned long long)sum(shm));
	unlink("/dev/shm/fsched-test-private");
	unlink("/tmp/fsched-test-private");
	return 0;
}
