/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <base/unix_socket.h>

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == UNIX_SOCKET_PATH_MAX + 1,
	"the limit of the path is the kernel's");

#define LISTEN_BACKLOG   64
#define PARENT_DIR_MODE  0750
#define ID_UNCHANGED     ((uid_t)-1)
#define NAME_BUFFER_SIZE 4096

/* Writes the line and hands the code through, so that a failure is one statement. */
static int __attribute__((format(printf, 4, 5)))
fail(char *error, size_t error_size, int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error, error_size, format, args);
	va_end(args);
	return code;
}

int unix_socket_path_check(const char *path, char *error, size_t error_size)
{
	size_t length = strlen(path);

	if (length == 0)
		return fail(error, error_size, -EINVAL,
			"socket path is empty; give a path of 1..%d bytes", UNIX_SOCKET_PATH_MAX);
	if (length > UNIX_SOCKET_PATH_MAX)
		return fail(error, error_size, -ENAMETOOLONG,
			"socket path '%s' is %zu bytes long; allowed: 1..%d bytes; choose a "
			"shorter "
			"directory or name",
			path, length, UNIX_SOCKET_PATH_MAX);
	return 0;
}

static int address_fill(
	struct sockaddr_un *address, const char *path, char *error, size_t error_size)
{
	int ret = unix_socket_path_check(path, error, error_size);

	if (ret < 0)
		return ret;
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(address->sun_path, path, strlen(path));
	return 0;
}

/* True if `text` is a decimal id; the value that means "unchanged" to chown(2) is none. */
static bool id_parse(const char *text, unsigned int *id)
{
	unsigned long long value;
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || value >= UINT_MAX)
		return false;
	*id = (unsigned int)value;
	return true;
}

static int owner_resolve(const char *name, uid_t *uid, char *error, size_t error_size)
{
	char buffer[NAME_BUFFER_SIZE];
	struct passwd entry, *found = NULL;

	*uid = ID_UNCHANGED;
	if (name == NULL || name[0] == '\0' || id_parse(name, uid))
		return 0;
	getpwnam_r(name, &entry, buffer, sizeof(buffer), &found);
	if (found == NULL)
		return fail(error, error_size, -EINVAL,
			"user '%s' does not exist; allowed: a user name or number; see 'getent "
			"passwd'",
			name);
	*uid = found->pw_uid;
	return 0;
}

static int group_resolve(const char *name, gid_t *gid, char *error, size_t error_size)
{
	char buffer[NAME_BUFFER_SIZE];
	struct group entry, *found = NULL;

	*gid = ID_UNCHANGED;
	if (name == NULL || name[0] == '\0' || id_parse(name, gid))
		return 0;
	getgrnam_r(name, &entry, buffer, sizeof(buffer), &found);
	if (found == NULL)
		return fail(error, error_size, -EINVAL,
			"group '%s' does not exist; allowed: a group name or number; see 'getent "
			"group'",
			name);
	*gid = found->gr_gid;
	return 0;
}

static int parent_create(const char *path, gid_t gid, char *error, size_t error_size)
{
	char parent[UNIX_SOCKET_PATH_MAX + 1];
	char *slash;
	int dir_fd, ret = 0;

	snprintf(parent, sizeof(parent), "%s", path);
	slash = strrchr(parent, '/');
	if (slash == NULL || slash == parent)
		return 0;
	*slash = '\0';
	if (mkdir(parent, PARENT_DIR_MODE) < 0) {
		if (errno == EEXIST)
			return 0;
		ret = -errno;
		return fail(error, error_size, ret,
			"cannot create directory '%s' for socket '%s': %s; create it, or choose "
			"another "
			"path",
			parent, path, strerror(-ret));
	}
	dir_fd = open(parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	/* In this order: a change of group must not follow a grant to it. */
	if (dir_fd < 0 || fchown(dir_fd, ID_UNCHANGED, gid) < 0 ||
		fchmod(dir_fd, PARENT_DIR_MODE) < 0)
		ret = -errno;
	if (dir_fd >= 0)
		close(dir_fd);
	if (ret < 0)
		return fail(error, error_size, ret,
			"cannot set group and mode of directory '%s': %s; run as root or as a "
			"member of "
			"the group",
			parent, strerror(-ret));
	return 0;
}

/* 0 if the path is free afterwards. */
static int stale_remove(const struct sockaddr_un *address, char *error, size_t error_size)
{
	const char *path = address->sun_path;
	struct unix_socket_identity identity;
	struct stat status;
	int fd, ret;

	if (lstat(path, &status) < 0)
		return errno == ENOENT ? 0
				       : fail(error, error_size, -errno, "cannot look at '%s': %s",
						 path, strerror(errno));
	if (!S_ISSOCK(status.st_mode))
		return fail(error, error_size, -EEXIST,
			"'%s' exists and is not a socket; remove it, or choose another path", path);
	identity = (struct unix_socket_identity){status.st_dev, status.st_ino};

	fd = unix_socket_connect(path, error, error_size);
	if (fd >= 0) {
		close(fd);
		fd = -EAGAIN;
	}
	if (fd == -ENOENT)
		return 0;
	/* A full queue is a living process too. */
	if (fd == -EAGAIN)
		return fail(error, error_size, -EADDRINUSE,
			"socket '%s' is in use by a running process; stop that process ('ss -xlp' "
			"names "
			"it), or choose another path",
			path);
	if (fd != -ECONNREFUSED)
		return fail(error, error_size, -EADDRINUSE,
			"socket '%s' exists and cannot be probed: %s; remove it, or choose another "
			"path",
			path, strerror(-fd));
	unix_socket_unlink(path, &identity);
	ret = lstat(path, &status) == 0 ? -EADDRINUSE : 0;
	if (ret < 0)
		return fail(error, error_size, ret,
			"cannot remove the stale socket '%s'; remove it by hand, or choose another "
			"path",
			path);
	return 0;
}

/*
 * Owner, group and mode of the name just bound. It is opened without following links and must be a
 * socket that nobody may use yet, as bind made it: whoever can write to the directory cannot make
 * us hand out another file.
 */
static int rights_set(
	const struct unix_socket_spec *spec, uid_t uid, gid_t gid, char *error, size_t error_size)
{
	char name[64];
	struct stat status;
	int fd, ret = 0;

	fd = open(spec->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &status) < 0)
		ret = -errno;
	else if (!S_ISSOCK(status.st_mode) || (status.st_mode & 07777) != 0 ||
		 status.st_uid != geteuid())
		ret = -EEXIST;
	if (ret < 0) {
		fail(error, error_size, ret, "socket '%s' was replaced while it was being made: %s",
			spec->path, strerror(-ret));
	} else if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0) {
		ret = -errno;
		fail(error, error_size, ret,
			"cannot give socket '%s' to owner '%s', group '%s': %s; run as root, or as "
			"a "
			"member of the group",
			spec->path, spec->owner ? spec->owner : "", spec->group ? spec->group : "",
			strerror(-ret));
	} else {
		/* fchmod() refuses O_PATH descriptors; their name under /proc is the way round. */
		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		if (chmod(name, spec->mode) < 0) {
			ret = -errno;
			fail(error, error_size, ret, "cannot set mode %04o of socket '%s': %s",
				(unsigned int)spec->mode, spec->path, strerror(-ret));
		}
	}
	if (fd >= 0)
		close(fd);
	return ret;
}

int unix_socket_listen(const struct unix_socket_spec *spec, char *error, size_t error_size)
{
	struct unix_socket_identity identity;
	struct sockaddr_un address;
	uid_t uid;
	gid_t gid;
	int fd, ret;

	ret = address_fill(&address, spec->path, error, error_size);
	if (ret < 0)
		return ret;
	if ((spec->mode & ~(mode_t)0777) != 0)
		return fail(error, error_size, -EINVAL,
			"mode %o of socket '%s' is not allowed; allowed: 0000..0777",
			(unsigned int)spec->mode, spec->path);
	ret = owner_resolve(spec->owner, &uid, error, error_size);
	if (ret == 0)
		ret = group_resolve(spec->group, &gid, error, error_size);
	if (ret == 0)
		ret = parent_create(spec->path, gid, error, error_size);
	if (ret == 0)
		ret = stale_remove(&address, error, error_size);
	if (ret < 0)
		return ret;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	/* Linux gives the new name the mode of the socket's own inode, less the umask: nobody may
	 * use it yet. */
	if (fd < 0 || fchmod(fd, 0) < 0 ||
		bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		ret = fail(error, error_size, -errno,
			"cannot bind socket '%s': %s; check the directory's owner and mode",
			spec->path, strerror(errno));
		goto fail_close;
	}
	ret = unix_socket_identify(spec->path, &identity);
	if (ret < 0) {
		fail(error, error_size, ret, "socket '%s' vanished while it was being made: %s",
			spec->path, strerror(-ret));
		goto fail_close;
	}
	ret = rights_set(spec, uid, gid, error, error_size);
	if (ret < 0)
		goto fail_unlink;
	if (listen(fd, LISTEN_BACKLOG) < 0) {
		ret = fail(error, error_size, -errno, "cannot listen on socket '%s': %s",
			spec->path, strerror(errno));
		goto fail_unlink;
	}
	return fd;

fail_unlink:
	unix_socket_unlink(spec->path, &identity);
fail_close:
	if (fd >= 0)
		close(fd);
	return ret;
}

int unix_socket_connect(const char *path, char *error, size_t error_size)
{
	struct sockaddr_un address;
	int fd, ret;

	ret = address_fill(&address, path, error, error_size);
	if (ret < 0)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	ret = -errno;
	if (fd >= 0)
		close(fd);
	return fail(
		error, error_size, ret, "cannot connect to socket '%s': %s", path, strerror(-ret));
}

int unix_socket_identify(const char *path, struct unix_socket_identity *identity)
{
	struct stat status;

	/* No compiler knows that -errno is never 0, and gcc 16 warns of fields left unset. */
	*identity = (struct unix_socket_identity){0};
	if (lstat(path, &status) < 0)
		return -errno;
	*identity = (struct unix_socket_identity){status.st_dev, status.st_ino};
	return 0;
}

void unix_socket_unlink(const char *path, const struct unix_socket_identity *identity)
{
	struct unix_socket_identity now;

	if (unix_socket_identify(path, &now) == 0 && now.device == identity->device &&
		now.inode == identity->inode)
		unlink(path);
}
