/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The channel: bytes out of the guest, and the host's listening side. It knows nothing of frames.
 *
 * Guest's side, struct cellos_channel: a state machine that never blocks and never gives up. The
 * owner polls the descriptor it names and calls advance; only cellos_channel_finish waits, up to
 * its deadline. One thread at a time; the struct is the caller's and owns its descriptor between
 * init and close.
 *
 * Host's side, struct cellos_listener: binds, listens, accepts. Same rules.
 *
 * All calls return 0 or more, or -errno, and never print.
 */
#ifndef CELLOS_TRANSPORT_H
#define CELLOS_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "cellos/export.h"

#ifdef __cplusplus
extern "C" {
#endif

/* sizeof(sockaddr_un.sun_path), unix(7). */
#define CELLOS_UNIX_PATH_BYTES 108
#define CELLOS_ADDRESS_TEXT_BYTES 160

enum cellos_address_kind { CELLOS_ADDRESS_VSOCK = 1, CELLOS_ADDRESS_UNIX, CELLOS_ADDRESS_FD };

struct cellos_address {
	enum cellos_address_kind kind;
	uint32_t cid;                      /* vsock, guest's side */
	uint32_t port;                     /* vsock */
	int fd;                            /* fd */
	char path[CELLOS_UNIX_PATH_BYTES]; /* unix, NUL-terminated, so at most 107 bytes */
};

/*
 * "vsock:CID:PORT", "unix:PATH", "fd:N". 0, or -EINVAL with *why set to a static English phrase
 * ("port is not a number from 0 to 4294967294", say).
 */
CELLOS_EXPORT CELLOS_MUST_CHECK int
cellos_address_parse(const char *text, struct cellos_address *address, const char **why);
/* "unix:PATH", "firecracker:BASE" (= unix:BASE_9001), "vsock:PORT" (any CID). Same errors. */
CELLOS_EXPORT CELLOS_MUST_CHECK int
cellos_listen_address_parse(const char *text, struct cellos_address *address, const char **why);
/* As cellos_address_parse reads it; always NUL-terminated. Returns `out`. */
CELLOS_EXPORT const char *cellos_address_format(const struct cellos_address *address,
						char out[CELLOS_ADDRESS_TEXT_BYTES]);

/* ---- guest's side --------------------------------------------------------------------------- */

enum cellos_channel_state {
	CELLOS_CHANNEL_CLOSED = 0, /* never opened, or closed by its owner */
	CELLOS_CHANNEL_WAITING,    /* backing off until cellos_channel_deadline */
	CELLOS_CHANNEL_CONNECTING, /* poll for POLLOUT */
	CELLOS_CHANNEL_OPEN,
	CELLOS_CHANNEL_GONE /* an fd: channel whose reader left; it cannot come back */
};

struct cellos_channel {
	enum cellos_channel_state state;
	int fd;               /* owned; -1 unless CONNECTING or OPEN */
	int error;            /* errno of the last failed attempt or the last break; 0 before any */
	uint32_t connections; /* opened so far, from 0 */
	struct cellos_address address;
	/* private */
	uint64_t deadline_ns;
	uint64_t opened_ns;
	uint32_t backoff_ms;
	uint32_t random;
	uint32_t piece_limit; /* not 0: poll before each write, and write at most this much */
	bool is_socket;
};

/*
 * What is asked for as SO_SNDBUF of a socket that the channel itself opens. The kernel doubles it
 * for its own bookkeeping and takes no more than net.core.wmem_max (212992 unless set otherwise),
 * so a channel holds at most twice this in the kernel. A descriptor given as fd:N keeps its own.
 */
#define CELLOS_CHANNEL_SEND_BUFFER_BYTES 524288

/*
 * Prepares a channel, WAITING since 0, so that the first advance connects; opens nothing. `seed`
 * feeds the jitter.
 *
 * For fd:N the descriptor's own description is not changed: a pipe or tty is opened anew through
 * /proc/self/fd, a socket is written with MSG_DONTWAIT, a regular file as it is. The first advance
 * takes a copy; N itself stays the caller's, who should close it afterwards (or put /dev/null in
 * its place): as long as it is open, a pipe's reader sees no end of file.
 */
CELLOS_EXPORT void cellos_channel_init(struct cellos_channel *channel,
				       const struct cellos_address *address, uint32_t seed);
/*
 * Moves on whatever can move at `now_ns` (CLOCK_MONOTONIC): starts a connect whose time has come,
 * settles one under way. Returns the state. Each time the state becomes OPEN, `connections` grows
 * by one: that is how the owner learns of a new connection.
 */
CELLOS_EXPORT enum cellos_channel_state cellos_channel_advance(struct cellos_channel *channel,
							       uint64_t now_ns);
/* When to call advance again without any poll event; UINT64_MAX when only events matter. */
CELLOS_EXPORT uint64_t cellos_channel_deadline(const struct cellos_channel *channel);
/*
 * Writes what fits. Bytes taken, or -EAGAIN (poll for POLLOUT, or, when cellos_channel_deadline is
 * not UINT64_MAX, wait until then: a full disk), or another -errno: the connection is over, the
 * descriptor is closed and the channel is WAITING (or GONE). -ENOTCONN when it is not OPEN. A
 * socket never raises SIGPIPE; a pipe whose reader left does: the owner blocks or ignores it.
 */
CELLOS_EXPORT CELLOS_MUST_CHECK ssize_t cellos_channel_writev(struct cellos_channel *channel,
							      const struct iovec *iov, int count,
							      uint64_t now_ns);
/*
 * Orderly end of the connection: shutdown(SHUT_WR), then waits for the peer's end of file until
 * `deadline_ns` (CLOCK_MONOTONIC), then closes. 0 when the peer closed, -ETIMEDOUT when it did not,
 * another -errno when the connection broke (-ENOTCONN: there was none); for what is not a socket 0
 * at once. The channel is CLOSED afterwards.
 */
CELLOS_EXPORT int cellos_channel_finish(struct cellos_channel *channel, uint64_t deadline_ns);
/* Closes at once. Harmless when closed. */
CELLOS_EXPORT void cellos_channel_close(struct cellos_channel *channel);

/* ---- host's side ---------------------------------------------------------------------------- */

#define CELLOS_LISTEN_BACKLOG 128

struct cellos_listener {
	int fd; /* owned; -1 when closed */
	struct cellos_address address;
	/* private: which file is ours to remove */
	uint64_t device;
	uint64_t inode;
};

struct cellos_socket_owner {
	bool set;
	uid_t uid;
	gid_t gid;
};

/*
 * Binds and listens. A stale socket file is replaced; a live one is -EADDRINUSE; a file that is no
 * socket is -EEXIST and left alone. Mode 0600 from the first moment, then chown to `owner` (may be
 * NULL). Non-blocking, close-on-exec.
 */
CELLOS_EXPORT CELLOS_MUST_CHECK int cellos_listener_open(struct cellos_listener *listener,
							 const struct cellos_address *address,
							 const struct cellos_socket_owner *owner);
/* A non-blocking, close-on-exec descriptor that the caller owns, or -EAGAIN, or another -errno. */
CELLOS_EXPORT CELLOS_MUST_CHECK int cellos_listener_accept(struct cellos_listener *listener);
/* Closes, and removes the socket file if it is still ours. Harmless when closed. */
CELLOS_EXPORT void cellos_listener_close(struct cellos_listener *listener);

#ifdef __cplusplus
}
#endif

#endif
