/* The style sheet of the report: light and dark, phone and paper. */
#ifndef FSCHED_CLI_REPORT_STYLE_H
#define FSCHED_CLI_REPORT_STYLE_H

extern const char report_style[];

#endif
