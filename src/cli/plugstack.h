/* The line of plugstack.conf that loads spank_fsched.so. */
#ifndef FSCHED_CLI_PLUGSTACK_H
#define FSCHED_CLI_PLUGSTACK_H

struct plugstack_line {
	char *file;   /* the file that contains the line */
	char *plugin; /* as written: a path, or a name in PluginDir */
	char *args;   /* the rest of the line, "" = none */
	int optional;
};

/* The path of plugstack.conf. The caller frees; NULL: there is no slurm.conf. */
char *plugstack_path(void);
/* Returns 1 if the line was found, else 0. *l is to be freed with plugstack_free() in both cases. */
int plugstack_find(struct plugstack_line *l);
void plugstack_free(struct plugstack_line *l);

/* The value of an argument "name=value" of the line. The caller frees; NULL: there is none. */
char *plugstack_arg(const struct plugstack_line *l, const char *name);

/* The directory of fsched's programs: libexec= of the line, else libexec_dir(). The caller frees. */
char *plugstack_libexec(void);

#endif
