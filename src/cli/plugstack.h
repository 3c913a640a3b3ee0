/* The line of plugstack.conf that loads spank_fsched.so. */
#ifndef FSCHED_CLI_PLUGSTACK_H
#define FSCHED_CLI_PLUGSTACK_H

struct plugstack_line {
	char *file;   /* where it stands */
	char *plugin; /* as written: a path, or a name in PluginDir */
	char *args;   /* the rest of the line, "" = none */
	int optional;
};

/* The path of plugstack.conf; the caller's, NULL without a slurm.conf. */
char *plugstack_path(void);
/* 1 found, 0 not. plugstack_free() in both cases. */
int plugstack_find(struct plugstack_line *l);
void plugstack_free(struct plugstack_line *l);

/* Value of an argument "name=value" of the line. The caller's, or NULL. */
char *plugstack_arg(const struct plugstack_line *l, const char *name);

/* Where fsched's programs are: libexec= of the line, else where this build installs them. The caller's. */
char *plugstack_libexec(void);

#endif
