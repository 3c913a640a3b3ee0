/* drain [-m MIB] [-t THREADS] [-l LEVEL] [-d|-D] [-k KIND] DIR
 *
 * Measures how fast memory images of several kinds of data are stored in DIR and restored, in GB of memory per second:
 * writing until all is on the disk, verification from the disk, filling memory from the page cache and from the disk,
 * and an increment that compares hashes. -d writes with O_DIRECT, -D never does; by default a probe decides. Prints one
 * line per kind of data; the first line names the columns. */
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/dir_tree.h"
#include "base/clock.h"
#include "base/util.h"
#include "image/image.h"
#include "image/writer.h"

#define BASE UINT64_C(0x7f0000000000)

static uint8_t *memory, *copy;
static size_t size = 1024u << 20;
static struct err err;

static const char *const kinds[] = { "zero", "random", "doubles", "walk64", "walk32", "text" };

static uint64_t next_random(void)
{
	static uint64_t x = 88172645463325252u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

static double unit(void)
{
	return (double)(next_random() >> 11) / 9007199254740992.0;
}

/* Text files of this machine; if it has none, words. */
static void make_text(void)
{
	size_t n = 0;
	FILE *p = popen(
		"find /usr/share /usr/include /usr/lib/python3 -name '*.py' -o -name '*.h' -o -name '*.txt' 2>/dev/null | head -4000 | xargs cat 2>/dev/null",
		"re");

	if (p) {
		n = fread(memory, 1, size < (64u << 20) ? size : 64u << 20, p);
		pclose(p);
	}
	for (; n < 4096; n++)
		memory[n] = (uint8_t) "words and more words\n"[next_random() % 21];
	for (size_t i = n; i < size; i++)
		memory[i] = memory[i % n];
}

static void make(const char *kind)
{
	double x = 300;

	memset(memory, 0, size);
	if (strcmp(kind, "text") == 0)
		make_text();
	for (size_t i = 0; i < size / 8; i++) {
		uint64_t *word = (uint64_t *)(void *)memory + i;
		double d;

		if (strcmp(kind, "random") == 0) {
			*word = next_random();
		} else if (strcmp(kind, "doubles") == 0) {
			d = sin((double)(i / 2048) * 0.003) * cos((double)(i % 2048) * 0.005) +
			    1e-4 * sin((double)i * 1e-5);
			memcpy(word, &d, 8);
		} else if (strcmp(kind, "walk64") == 0) {
			x += unit() - 0.5;
			memcpy(word, &x, 8);
		} else if (strcmp(kind, "walk32") == 0) {
			for (int k = 0; k < 2; k++) {
				float f;

				x += (unit() - 0.5) * 0.01;
				f = (float)x;
				memcpy((uint8_t *)word + 4 * k, &f, 4);
			}
		}
	}
}

static int read_memory(void *arg, uint64_t id, uint64_t addr, void *buf, size_t len)
{
	(void)arg;
	(void)id;
	memcpy(buf, memory + (addr - BASE), len);
	return 0;
}

static int write_memory(void *arg, uint64_t id, uint64_t addr, const void *buf, size_t len)
{
	(void)arg;
	(void)id;
	memcpy(copy + (addr - BASE), buf, len);
	return 0;
}

static int new_dir(int base, const char *name)
{
	int fd;

	if (remove_tree_at(base, name) < 0 || mkdirat(base, name, 0700) < 0 ||
	    (fd = openat(base, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		perror(name);
		exit(1);
	}
	return fd;
}

static void check(int rc)
{
	if (rc == 0)
		return;
	fprintf(stderr, "%s\n", err.text);
	exit(1);
}

static double speed(int64_t start)
{
	return (double)size / 1e3 / (double)(now_us() - start);
}

/* Drops the image's files from the page cache, so that they are read from the disk. */
static void forget(int dirfd)
{
	struct mem_image *m = mem_image_open(dirfd, &err);
	size_t n;
	const struct mem_file *f;

	check(m ? 0 : -1);
	f = mem_image_files(m, &n);
	for (size_t i = 0; i < n; i++) {
		char name[MEM_NAME_MAX];
		cleanup_close int fd = openat(dirfd, mem_file_name(&f[i], name), O_RDONLY | O_CLOEXEC);

		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	}
	mem_image_close(m);
}

static double fill(struct mem_image *m, int threads)
{
	const struct mem_sink sink = { .write = write_memory };
	const struct mem_read_opts o = { .threads = threads };
	int64_t start;

	memset(copy, 0, size);
	start = now_us();
	check(mem_image_read_pages(m, &sink, &o, NULL, &err));
	return speed(start);
}

static void measure(int base, const char *kind, const struct mem_write_opts *opts)
{
	const struct mem_source source = { .read = read_memory };
	const struct mem_range work = { .id = 1, .addr = BASE, .npages = size / MEM_PAGE };
	struct mem_write_opts o = *opts;
	struct mem_write_stats s, inc;
	double warm, cold, verify;
	cleanup_close int one = new_dir(base, "one"), two = new_dir(base, "two");
	struct mem_image *m;
	int64_t start;

	make(kind);
	o.hashes = true;
	check(mem_image_write(one, 1, &source, &work, 1, &o, &s, &err));
	m = mem_image_open(one, &err);
	check(m ? 0 : -1);
	warm = fill(m, o.threads);
	if (memcmp(memory, copy, size) != 0) {
		fprintf(stderr, "%s: what came back is not what was stored\n", kind);
		exit(1);
	}
	forget(one);
	cold = fill(m, o.threads);
	start = now_us();
	check(mem_image_verify(m, MEM_VERIFY_OWN, o.threads, &err));
	verify = speed(start);
	check(mem_image_load_hashes(m, &err));
	/* Change every twentieth page. */
	for (size_t i = 0; i < size / MEM_PAGE; i += 20)
		memory[i * MEM_PAGE + 100] ^= 0x5a;
	o.previous = m;
	o.compare = true;
	check(mem_image_write(two, 2, &source, &work, 1, &o, &inc, &err));
	mem_image_close(m);
	printf("%-8s %6.2f %6.2f %6.2f %6.2f %6.2f %6.2f %7.1f%%  %s %u thr, cpu %.2f s, sync %llu ms\n", kind,
	       (double)size / 1e3 / (double)s.wall_us, s.stored ? (double)(s.raw + s.zero) / (double)s.stored : INFINITY,
	       verify, warm, cold, (double)size / 1e3 / (double)inc.wall_us,
	       s.stored ? 100.0 * (double)inc.stored / (double)s.stored : 0, s.direct_io ? "direct" : "cached",
	       s.threads, (double)s.cpu_us / 1e6, (unsigned long long)s.sync_us / 1000);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct mem_write_opts o;
	const char *only = NULL;
	int opt, base;

	mem_write_opts_init(&o);
	while ((opt = getopt(argc, argv, "m:t:l:k:dD")) != -1)
		switch (opt) {
		case 'm': size = strtoul(optarg, NULL, 10) << 20; break;
		case 't': o.threads = atoi(optarg); break;
		case 'l': o.level = atoi(optarg); break;
		case 'k': only = optarg; break;
		case 'd': o.direct_io = MEM_DIRECT_IO_ALWAYS; break;
		case 'D': o.direct_io = MEM_DIRECT_IO_NEVER; break;
		default: return 2;
		}
	if (optind + 1 != argc || size == 0 || (base = open(argv[optind], O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0) {
		fputs("usage: drain [-m MIB] [-t THREADS] [-l LEVEL] [-k KIND] [-d|-D] DIR\n", stderr);
		return 2;
	}
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED || copy == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	puts("GB/s      write  ratio verify   fill   cold hashed increment");
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!only || strcmp(only, kinds[i]) == 0)
			measure(base, kinds[i], &o);
	remove_tree_at(base, "one");
	remove_tree_at(base, "two");
	return 0;
}
