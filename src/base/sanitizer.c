/* Only in builds with ASan and UBSan: sets where their reports go. Agent, worker and fsched-slurm have no stderr
 * (descriptor 2 of a batch task would be the job's output) and an environment of their own, so they can neither show a
 * report nor get *SAN_OPTIONS. The tests check if there is a file. */

#define REPORTS "log_path=" FSCHED_SANITIZER_LOG ":log_exe_name=1:print_stacktrace=1"

/* The libraries of the sanitizers call these functions by name. */
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
