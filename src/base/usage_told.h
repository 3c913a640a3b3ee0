/* Between root, who knows what the epochs of all users take (store/usage.h), and sbatch, which runs as the user: a file
 * of the user's below JobCheckpointDir. It is for a message only, since its owner can change it.
 *
 *   {"user": bytes of the user's epochs, "all": of all users', "need": what a refused checkpoint would have taken, 0 =
 *    none was refused, "time": Unix}
 */
#ifndef FSCHED_BASE_USAGE_TOLD_H
#define FSCHED_BASE_USAGE_TOLD_H

#define USAGE_DIR  "usage"
#define USAGE_TOLD "told.%u" /* uid; in USAGE_DIR */

#endif
