#include "cli/shim_scan.h"

#include <getopt.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

/* scontrol's options (22.05 to 24.11). getopt itself decides, so that abbreviations, bundles and "--" mean here what
 * they mean there; the leading '+' stops at the keyword and keeps getopt from reordering argv. */
static const char short_options[] = "+adhM:FoQu:vV";
enum { OPT_OTHER = 256 };
/* clang-format off */
static const struct option long_options[] = {
	{ "all",        no_argument,       NULL, 'a' },
	{ "cluster",    required_argument, NULL, 'M' },
	{ "clusters",   required_argument, NULL, 'M' },
	{ "details",    no_argument,       NULL, 'd' },
	{ "federation", no_argument,       NULL, OPT_OTHER },
	{ "future",     no_argument,       NULL, 'F' },
	{ "help",       no_argument,       NULL, 'h' },
	{ "hide",       no_argument,       NULL, OPT_OTHER },
	{ "local",      no_argument,       NULL, OPT_OTHER },
	{ "oneliner",   no_argument,       NULL, 'o' },
	{ "quiet",      no_argument,       NULL, 'Q' },
	{ "sibling",    no_argument,       NULL, OPT_OTHER },
	{ "uid",        required_argument, NULL, 'u' },
	{ "usage",      no_argument,       NULL, 'h' },
	{ "verbose",    no_argument,       NULL, 'v' },
	{ "version",    no_argument,       NULL, 'V' },
	{ NULL, 0, NULL, 0 }
};
/* clang-format on */

/* The versions of Slurm that had the keyword accepted two letters of it. No other keyword of any scontrol begins with
 * "ch". */
static bool is_keyword(const char *word, const char *keyword, size_t letters)
{
	size_t len = strlen(word);

	return len >= letters && len <= strlen(keyword) && strncasecmp(word, keyword, len) == 0;
}

struct shim_scan shim_scan(int argc, char **argv)
{
	struct shim_scan s = { 0 };
	struct shim_scan real = { 0 };
	int c;

	opterr = 0;
	optind = 0; /* glibc: start afresh */
	while ((c = getopt_long(argc, argv, short_options, long_options, NULL)) != -1) {
		switch (c) {
		case 'M': s.cluster = optarg; break;
		case 'u': s.uid = optarg; break;
		case 'Q': s.quiet = true; break;
		case 'v': s.quiet = false; break;
		case 'h':
		case 'V':
		case '?': return real; /* scontrol answers these, or reports an error, before it reads a keyword */
		default: break;
		}
	}
	if (optind >= argc)
		return real;
	s.checkpoint = is_keyword(argv[optind], "checkpoint", 2);
	s.requeue = is_keyword(argv[optind], "requeue", 3) || is_keyword(argv[optind], "requeuehold", 8);
	if (!s.checkpoint && !s.requeue)
		return real;
	s.next = optind + 1;
	return s;
}
