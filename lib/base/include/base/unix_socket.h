/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * UNIX stream sockets with a name in the file system: the vhost-user sockets of the ports and the
 * control socket.
 *
 * A listening socket gets its owner, group and mode before it listens, so there is no moment in
 * which a stranger can connect; the process's umask plays no part. A name left behind by a process
 * that died is taken over, one that is served by a living process, or that is no socket at all, is
 * never touched.
 *
 * Thread rule: any thread; two threads must not bind the same path at the same time.
 */
#ifndef BASE_UNIX_SOCKET_H
#define BASE_UNIX_SOCKET_H

#include <stddef.h>
#include <sys/types.h>

/* Longest path in bytes, without the final zero: sun_path has 108 (unix(7)). */
#define UNIX_SOCKET_PATH_MAX 107

/* Room for any message of this file; a shorter buffer truncates. */
#define UNIX_SOCKET_ERROR_MAX 512

/* The strings belong to the caller and are read during the call only. */
struct unix_socket_spec {
	const char *path;
	const char *owner; /* user name or number; NULL or "": the process's own */
	const char *group; /* group name or number; NULL or "": the process's own */
	mode_t mode;       /* permission bits, 0..0777 */
};

/* Which file a path named at the time of unix_socket_identify(). */
struct unix_socket_identity {
	dev_t device;
	ino_t inode;
};

/*
 * 0, or -EINVAL (empty) or -ENAMETOOLONG with one line in `error` that names the path, its length
 * and the limit.
 */
int unix_socket_path_check(const char *path, char *error, size_t error_size);

/*
 * Creates, binds and listens. Returns the descriptor (close-on-exec, non-blocking), which the
 * caller owns, or a negative errno with one line in `error` (no newline): what, which path, the
 * next step. After a failure nothing this call made remains, except a parent directory.
 *
 * A missing parent directory (one level) is created with mode 0750 and the socket's group, so that
 * the group can reach the socket.
 *
 * -EADDRINUSE: a living process serves the path. -EEXIST: the path is not a socket. -EINVAL: owner,
 * group or mode is not valid. -EPERM: not allowed to give the socket to that owner or group.
 * Others: as bind(2) and listen(2) say.
 */
int unix_socket_listen(const struct unix_socket_spec *spec, char *error, size_t error_size);

/*
 * Connects without waiting. Returns the connected descriptor (close-on-exec, non-blocking), which
 * the caller owns, or a negative errno with one line in `error`. -ENOENT and -ECONNREFUSED: nobody
 * is there yet. -EAGAIN: the other side's queue of connections is full; try again later.
 */
int unix_socket_connect(const char *path, char *error, size_t error_size);

/* Remembers which file `path` is; call it directly after unix_socket_listen(). 0 or a negative
 * errno. */
int unix_socket_identify(const char *path, struct unix_socket_identity *identity);

/*
 * Removes the name, if it is still the file `identity` speaks of: a successor may have put its own
 * socket there. Call it BEFORE closing the listening descriptor, which keeps the inode number from
 * being used again.
 */
void unix_socket_unlink(const char *path, const struct unix_socket_identity *identity);

#endif
