/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The host's side of a channel: bind, listen, accept.
 *
 * One thread at a time. The socket file is never more than 0600, whatever the umask, and
 * nobody can connect before its owner is set. `device` and `inode` name the file that is ours; they
 * cannot come to mean another one while the socket lives, because it holds the inode.
 *
 * It refuses: to replace a socket that anybody still has bound, or a file that is no socket; to
 * remove a file that is not ours any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "cellos/transport.h"

/* The agent's host port, CELLOS_VSOCK_TELEMETRY_PORT, as Firecracker appends it to its base path.
 */
#define FIRECRACKER_SUFFIX "_9001"
/* Another host replaces a socket in the same folder: a matter of microseconds, so 1 s is plenty. */
#define LOCK_TRIES 100
#define LOCK_PAUSE_MS 10

int cellos_listen_address_parse(const char *text, struct cellos_address *address, const char **why)
{
	const char *rest;

	memset(address, 0, sizeof(*address));
	address->fd = -1;
	if ((rest = cellos_text_after(text, "unix:")) != NULL)
		return cellos_unix_path_set(address, rest, "", why);
	if ((rest = cellos_text_after(text, "firecracker:")) != NULL)
		return cellos_unix_path_set(address, rest, FIRECRACKER_SUFFIX, why);
	if ((rest = cellos_text_after(text, "vsock:")) == NULL)
		return cellos_address_refuse(
			why, "an address is unix:PATH, firecracker:BASE or vsock:PORT");
	address->kind = CELLOS_ADDRESS_VSOCK;
	address->cid = UINT32_MAX; /* VMADDR_CID_ANY */
	return cellos_text_number(rest, strlen(rest), CELLOS_VSOCK_MAX_NUMBER, &address->port, why,
				  CELLOS_WHY_PORT);
}

/* ---- a file that is already there ----------------------------------------------------------- */

/*
 * Is anybody behind the file? 0: a stale socket; -EADDRINUSE: bound by somebody; -EEXIST: no
 * socket; -ENOENT: nothing there any more; else what kept us from finding out.
 *
 * Asked by connecting a *datagram* socket: where a stream socket is bound the kernel answers
 * EPROTOTYPE and its owner notices nothing, whereas a stream connection would reach a live
 * receiver as one more guest.
 */
static int look_behind(const char *path, const union cellos_any_sockaddr *name, socklen_t length)
{
	struct stat st;
	int fd, status;

	if (lstat(path, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, &name->any, length) == 0)
		status = -EADDRINUSE;
	else if (errno == ECONNREFUSED)
		status = 0;
	else
		status = errno == EPROTOTYPE || errno == EPERM ? -EADDRINUSE : -errno;
	(void)close(fd);
	return status;
}

/*
 * Between looking and removing, another host could have replaced the stale file by its own live
 * one. Hosts exclude each other by a lock on the folder; it goes away with the descriptor.
 */
static int lock_folder(const char *path)
{
	char folder[CELLOS_UNIX_PATH_BYTES];
	char *slash;
	int fd;

	memcpy(folder, path, sizeof(folder));
	slash = strrchr(folder, '/');
	if (slash == NULL)
		strcpy(folder, ".");
	else
		slash[slash == folder] = '\0';
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		(void)poll(NULL, 0, LOCK_PAUSE_MS);
	}
	(void)close(fd);
	return -EBUSY; /* anybody who may read the folder can hold it: better refuse than hang */
}

static int replace_stale(int fd, const struct cellos_address *address,
			 const union cellos_any_sockaddr *name, socklen_t length)
{
	int status = look_behind(address->path, name, length), lock;

	if (status < 0 && status != -ENOENT)
		return status;
	lock = lock_folder(address->path);
	if (lock < 0)
		return lock;
	status = look_behind(address->path, name, length);
	if (status == 0 && unlink(address->path) < 0)
		status = -errno;
	if (status == 0 || status == -ENOENT)
		status = bind(fd, &name->any, length) < 0 ? -errno : 0;
	(void)close(lock);
	return status;
}

/* ---- opening -------------------------------------------------------------------------------- */

/* Remembers which file is ours, and gives it away. By descriptor: the name could be swapped. */
static int claim_file(struct cellos_listener *listener, const struct cellos_socket_owner *owner)
{
	int fd = open(listener->address.path, O_PATH | O_NOFOLLOW | O_CLOEXEC), status = 0;
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		status = -errno;
	} else if (!S_ISSOCK(st.st_mode)) {
		status = -EEXIST;
	} else {
		listener->device = st.st_dev;
		listener->inode = st.st_ino;
		if (owner != NULL && owner->set &&
		    fchownat(fd, "", owner->uid, owner->gid, AT_EMPTY_PATH) < 0)
			status = -errno;
	}
	(void)close(fd);
	return status;
}

int cellos_listener_open(struct cellos_listener *listener, const struct cellos_address *address,
			 const struct cellos_socket_owner *owner)
{
	bool local = address->kind == CELLOS_ADDRESS_UNIX;
	union cellos_any_sockaddr name;
	socklen_t length = cellos_address_to_sockaddr(address, &name);
	int status = 0;

	memset(listener, 0, sizeof(*listener));
	listener->fd = -1;
	listener->address = *address;
	if (!local && address->kind != CELLOS_ADDRESS_VSOCK)
		return -EINVAL;
	listener->fd = socket(name.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0)
		return -errno;
	/* bind gives the file the mode of the socket's own inode: no umask of the process involved.
	 */
	if ((local && fchmod(listener->fd, 0600) < 0) || bind(listener->fd, &name.any, length) < 0)
		status = -errno;
	if (local && status == -EADDRINUSE)
		status = replace_stale(listener->fd, address, &name, length);
	if (local && status == 0)
		status = claim_file(listener, owner);
	if (status == 0 && listen(listener->fd, CELLOS_LISTEN_BACKLOG) < 0)
		status = -errno;
	if (status < 0)
		cellos_listener_close(listener);
	return status;
}

int cellos_listener_accept(struct cellos_listener *listener)
{
	int fd;

	do
		fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
	return fd >= 0 ? fd : -errno;
}

void cellos_listener_close(struct cellos_listener *listener)
{
	struct stat st;

	if (listener->fd < 0)
		return;
	/* Before close, while the inode's number cannot have been given to another file. */
	if (listener->inode != 0 && lstat(listener->address.path, &st) == 0 &&
	    st.st_dev == listener->device && st.st_ino == listener->inode)
		(void)unlink(listener->address.path);
	(void)close(listener->fd);
	listener->fd = -1;
}
