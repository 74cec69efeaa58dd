/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/unix_socket.h>

/* A directory per test; the whole of it is removed again, and must be empty of anything but what
 * the test left. */
struct fixture {
	char dir[64];
	char path[96];
	char error[UNIX_SOCKET_ERROR_MAX];
};

static int fixture_setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/ringway-test-XXXXXX");
	if (mkdtemp(f->dir) == NULL)
		return -1;
	snprintf(f->path, sizeof(f->path), "%s/s.sock", f->dir);
	*state = f;
	return 0;
}

static int fixture_teardown(void **state)
{
	struct fixture *f = *state;
	int ret;

	unlink(f->path);
	ret = rmdir(f->dir);
	free(f);
	return ret;
}

static struct unix_socket_spec spec_of(const struct fixture *f)
{
	return (struct unix_socket_spec){.path = f->path, .mode = 0660};
}

static void listener_has_the_mode_asked_for_whatever_the_umask(void **state)
{
	static const mode_t modes[] = {0600, 0660, 0666, 0777, 0};
	struct fixture *f = *state;
	struct unix_socket_spec spec = spec_of(f);
	mode_t old = umask(0077);

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		struct stat status;
		int fd;

		spec.mode = modes[i];
		fd = unix_socket_listen(&spec, f->error, sizeof(f->error));
		assert_true(fd >= 0);
		assert_int_equal(stat(f->path, &status), 0);
		assert_true(S_ISSOCK(status.st_mode));
		assert_int_equal(status.st_mode & 07777, modes[i]);
		assert_int_equal(unlink(f->path), 0);
		close(fd);
	}
	umask(old);
}

static void listener_is_nonblocking_and_closed_on_exec(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = spec_of(f);
	int fd = unix_socket_listen(&spec, f->error, sizeof(f->error));
	int client;

	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	client = unix_socket_connect(f->path, f->error, sizeof(f->error));
	assert_true(client >= 0);
	assert_true(fcntl(client, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(client, F_GETFD) & FD_CLOEXEC);
	close(client);
	close(fd);
}

static void listener_gets_owner_and_group_by_name_or_number(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = spec_of(f);
	struct stat status;
	int fd;

	if (geteuid() != 0) {
		print_message("skipped: giving a file away needs root\n");
		skip();
	}
	spec.owner = "nobody";
	spec.group = "12345";
	fd = unix_socket_listen(&spec, f->error, sizeof(f->error));
	assert_true(fd >= 0);
	assert_int_equal(stat(f->path, &status), 0);
	assert_int_equal(status.st_uid, 65534);
	assert_int_equal(status.st_gid, 12345);
	assert_int_equal(status.st_mode & 07777, 0660);
	close(fd);
}

static void unknown_owner_or_group_is_named_and_leaves_no_file(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = spec_of(f);

	spec.owner = "no-such-user";
	assert_int_equal(unix_socket_listen(&spec, f->error, sizeof(f->error)), -EINVAL);
	assert_non_null(strstr(f->error, "user 'no-such-user' does not exist"));
	spec.owner = NULL;
	spec.group = "no-such-group";
	assert_int_equal(unix_socket_listen(&spec, f->error, sizeof(f->error)), -EINVAL);
	assert_non_null(strstr(f->error, "group 'no-such-group' does not exist"));
	/* chown(2) would read this number as "leave it" */
	spec.group = "4294967295";
	assert_int_equal(unix_socket_listen(&spec, f->error, sizeof(f->error)), -EINVAL);
	assert_int_equal(access(f->path, F_OK), -1);
}

static void mode_beyond_permission_bits_is_refused(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = spec_of(f);

	spec.mode = 04755;
	assert_int_equal(unix_socket_listen(&spec, f->error, sizeof(f->error)), -EINVAL);
	assert_non_null(strstr(f->error, "0000..0777"));
	assert_int_equal(access(f->path, F_OK), -1);
}

static void name_left_by_a_dead_process_is_taken_over(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = spec_of(f);
	int fd = unix_socket_listen(&spec, f->error, sizeof(f->error));

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(access(f->path, F_OK), 0);
	fd = unix_socket_listen(&spec, f->error, sizeof(f->error));
	assert_true(fd >= 0);
	close(fd);
}

static void name_of_a_living_process_is_not_touched(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = spec_of(f);
	int first = unix_socket_listen(&spec, f->error, sizeof(f->error));
	int client;

	assert_true(first >= 0);
	assert_int_equal(unix_socket_listen(&spec, f->error, sizeof(f->error)), -EADDRINUSE);
	assert_non_null(strstr(f->error, f->path));
	assert_non_null(strstr(f->error, "in use by a running process"));
	client = unix_socket_connect(f->path, f->error, sizeof(f->error));
	assert_true(client >= 0);
	close(client);
	close(first);
}

static void file_that_is_no_socket_is_not_removed(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = spec_of(f);
	int fd = open(f->path, O_CREAT | O_WRONLY, 0600);

	close(fd);
	assert_int_equal(unix_socket_listen(&spec, f->error, sizeof(f->error)), -EEXIST);
	assert_non_null(strstr(f->error, "is not a socket"));
	assert_int_equal(access(f->path, F_OK), 0);
}

static void symbolic_link_at_the_path_is_not_followed(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = spec_of(f);

	assert_int_equal(symlink("/tmp/ringway-no-such-target", f->path), 0);
	assert_int_equal(unix_socket_listen(&spec, f->error, sizeof(f->error)), -EEXIST);
	assert_int_equal(access("/tmp/ringway-no-such-target", F_OK), -1);
}

static void path_of_107_bytes_works_and_108_is_refused_with_its_length(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = spec_of(f);
	char path[UNIX_SOCKET_PATH_MAX + 2];
	int fd;

	memset(path, 'x', sizeof(path));
	memcpy(path, f->dir, strlen(f->dir));
	path[strlen(f->dir)] = '/';
	path[UNIX_SOCKET_PATH_MAX] = '\0';
	spec.path = path;
	fd = unix_socket_listen(&spec, f->error, sizeof(f->error));
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(unlink(path), 0);

	path[UNIX_SOCKET_PATH_MAX] = 'x';
	path[UNIX_SOCKET_PATH_MAX + 1] = '\0';
	assert_int_equal(unix_socket_listen(&spec, f->error, sizeof(f->error)), -ENAMETOOLONG);
	assert_non_null(strstr(f->error, "is 108 bytes long; allowed: 1..107 bytes"));
	assert_int_equal(unix_socket_connect(path, f->error, sizeof(f->error)), -ENAMETOOLONG);
	assert_int_equal(unix_socket_connect("", f->error, sizeof(f->error)), -EINVAL);
}

static void missing_parent_is_made_one_level_deep_with_mode_0750(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = spec_of(f);
	char parent[96], path[128], deep[128];
	struct stat status;
	mode_t old = umask(0);
	int fd;

	snprintf(parent, sizeof(parent), "%s/run", f->dir);
	snprintf(path, sizeof(path), "%s/s.sock", parent);
	spec.path = path;
	fd = unix_socket_listen(&spec, f->error, sizeof(f->error));
	umask(old);
	assert_true(fd >= 0);
	assert_int_equal(stat(parent, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0750);
	close(fd);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(parent), 0);

	snprintf(deep, sizeof(deep), "%s/a/b/s.sock", f->dir);
	spec.path = deep;
	assert_int_equal(unix_socket_listen(&spec, f->error, sizeof(f->error)), -ENOENT);
	assert_non_null(strstr(f->error, "cannot create directory"));
}

static void connect_tells_nobody_there_from_a_full_queue(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = spec_of(f);
	int clients[1024];
	int n = 0, fd;

	assert_int_equal(unix_socket_connect(f->path, f->error, sizeof(f->error)), -ENOENT);
	fd = unix_socket_listen(&spec, f->error, sizeof(f->error));
	assert_true(fd >= 0);
	for (n = 0; n < 1024; n++) {
		clients[n] = unix_socket_connect(f->path, f->error, sizeof(f->error));
		if (clients[n] < 0)
			break;
	}
	assert_in_range(n, 1, 1023);
	assert_int_equal(clients[n], -EAGAIN);
	/* and a full queue is a living process */
	assert_int_equal(unix_socket_listen(&spec, f->error, sizeof(f->error)), -EADDRINUSE);
	while (n-- > 0)
		close(clients[n]);
	close(fd);
	assert_int_equal(unix_socket_connect(f->path, f->error, sizeof(f->error)), -ECONNREFUSED);
}

static void unlink_removes_our_name_but_not_a_successors(void **state)
{
	struct fixture *f = *state;
	struct unix_socket_spec spec = spec_of(f);
	struct unix_socket_identity ours;
	int first, second;

	first = unix_socket_listen(&spec, f->error, sizeof(f->error));
	assert_true(first >= 0);
	assert_int_equal(unix_socket_identify(f->path, &ours), 0);
	assert_int_equal(unlink(f->path), 0);
	second = unix_socket_listen(&spec, f->error, sizeof(f->error));
	assert_true(second >= 0);
	unix_socket_unlink(f->path, &ours);
	assert_int_equal(access(f->path, F_OK), 0);

	assert_int_equal(unix_socket_identify(f->path, &ours), 0);
	unix_socket_unlink(f->path, &ours);
	assert_int_equal(access(f->path, F_OK), -1);
	close(first);
	close(second);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(listener_has_the_mode_asked_for_whatever_the_umask),
		TEST(listener_is_nonblocking_and_closed_on_exec),
		TEST(listener_gets_owner_and_group_by_name_or_number),
		TEST(unknown_owner_or_group_is_named_and_leaves_no_file),
		TEST(mode_beyond_permission_bits_is_refused),
		TEST(name_left_by_a_dead_process_is_taken_over),
		TEST(name_of_a_living_process_is_not_touched),
		TEST(file_that_is_no_socket_is_not_removed),
		TEST(symbolic_link_at_the_path_is_not_followed),
		TEST(path_of_107_bytes_works_and_108_is_refused_with_its_length),
		TEST(missing_parent_is_made_one_level_deep_with_mode_0750),
		TEST(connect_tells_nobody_there_from_a_full_queue),
		TEST(unlink_removes_our_name_but_not_a_successors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
