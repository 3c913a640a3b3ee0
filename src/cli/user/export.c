/* fsched export: writes an epoch as a plain directory of criu images. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/user/epoch_access.h"
#include "base/util.h"
#include "capture/file_data.h"
#include "image/restore_dir.h"
#include "files/files.h"
#include "store/manifest.h"
#include "store/store.h"

/* Unpacks what the job had in /dev/shm into dev/shm below the images. The archive lacks the data of large files, which
 * are filled from memory/. */
static int write_shm(int epochfd, struct mem_image *image, const struct conf *c, int dirfd, struct err *err)
{
	cleanup_close int filesfd = openat(epochfd, "files", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), shmfd = -1;

	if (filesfd < 0 || mkdirat(dirfd, "dev", 0755) || mkdirat(dirfd, "dev/shm", 01777))
		return err_sys(err, errno, "cannot make dev/shm beside the images");
	shmfd = openat(dirfd, "dev/shm", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (shmfd < 0)
		return err_sys(err, errno, "cannot open dev/shm beside the images");
	return files_unpack_private(dirfd, filesfd, false, NULL, err) ||
			       mem_file_data_fill(image, shmfd, (int)c->threads, err)
		       ? -1
		       : 0;
}

/* Makes the directory and opens it. It must not exist: root reads it later, so nobody else may have put anything there.
 * Whoever may write to the directory above can exchange it before it is opened. Returns a descriptor or -1. */
static int make_own_dir(const char *dir, struct err *err)
{
	cleanup_close int fd = -1;
	struct stat st;

	if (mkdir(dir, 0700))
		return err_sys(err, errno, "cannot make %s", dir);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return err_sys(err, errno, "cannot open %s", dir);
	if (st.st_uid != 0 || st.st_mode & 077)
		return err_set(err, EPERM,
			       "%s was exchanged by another user: choose a directory in which only root can write", dir);
	return steal_fd(&fd);
}

static int write_out(int epochfd, const struct manifest *m, const struct conf *c, const char *dir, struct err *err)
{
	cleanup_close int criufd = openat(epochfd, "criu", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	cleanup_close int dirfd = -1;
	cleanup_mem_image struct mem_image *image = NULL;

	if (criufd < 0)
		return err_sys(err, errno, "cannot open the epoch's images");
	if (epoch_open_memory(epochfd, m, &image, err))
		return -1;
	dirfd = make_own_dir(dir, err);
	if (dirfd < 0)
		return -1;
	if (mem_restore_dir_export(image, criufd, dirfd, (int)c->threads, err))
		return -1;
	return image && mem_file_data_any(image) ? write_shm(epochfd, image, c, dirfd, err) : 0;
}

static int export_epoch(const struct store *s, unsigned epoch, const struct conf *c, const char *dir, struct err *err)
{
	cleanup_close int epochfd = store_open_epoch(s, epoch, err);
	struct manifest *m;
	int rc;

	if (epochfd < 0)
		return -1;
	m = xcalloc(1, sizeof(*m));
	rc = manifest_load(epochfd, m, err);
	if (!rc)
		rc = write_out(epochfd, m, c, dir, err);
	manifest_free(m);
	free(m);
	return rc;
}

int export_cmd(int argc, char **argv)
{
	struct store s = { .dirfd = -1, .epochsfd = -1 };
	const char *path = NULL;
	struct conf conf;
	struct err err;
	long epoch;
	int rc = cli_conf_option("export", argc, argv, &path);

	if (rc)
		return rc - 1;
	if (argc - optind != 3)
		return cli_usage(
			"export",
			"three arguments are needed: a job id (or a pod's directory), the number of an epoch, and a directory to create");
	if (cli_number(argv[optind + 1], 1, 999999, &epoch))
		return cli_usage("export", "\"%s\" is not the number of an epoch", argv[optind + 1]);
	if (cli_conf("export", path, &conf))
		return CLI_FAILED;
	if (geteuid() != 0) {
		cli_error("export", "epochs can be read by root only");
		return CLI_FAILED;
	}
	rc = epoch_open_store(&s, &conf, argv[optind], &err) ||
	     export_epoch(&s, (unsigned)epoch, &conf, argv[optind + 2], &err);
	if (rc)
		cli_error("export", "%s", err.text);
	store_close(&s);
	return rc ? CLI_FAILED : CLI_OK;
}
