/* Only in builds with ASan and UBSan: where their reports go. Agent, worker and fsched-slurm have no stderr (descriptor
 * 2 of a batch task would be the job's output) and an environment of their own, so neither shows a report nor takes
 * *SAN_OPTIONS. The tests look whether there is a file. */

#define REPORTS "log_path=" FSCHED_SANITIZER_LOG ":log_exe_name=1:print_stacktrace=1"

/* The sanitizers' libraries call these by name. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__ubsan_default_options(void);

const char *__asan_default_options(void)
{
	return REPORTS;
}

const char *__ubsan_default_options(void)
{
	return REPORTS;
}
