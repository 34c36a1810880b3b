/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a hostile root tries against the agent: one function each, run in a process of its own.
 *
 * An attack says what it met and undoes what it did, unless it ends the agent or the machine. One
 * thread, but where threads are the attack. Refuses to: run on anything but a throw-away machine.
 */
#ifndef ATTACK_H
#define ATTACK_H

#include <errno.h>
#include <stddef.h>
#include <sys/types.h>

/* What an attack returns; a positive number is the errno that refused it. */
enum {
	WORKED = 0,
	ABSENT = -1, /* this kernel or machine does not have what it needs */
	SENT = -2,   /* done; only the agent's state can tell whether it had an effect */
	FATAL = -3   /* the same, and the effect would be its end, which may take it a while */
};

/*
 * Which walls stop it, in the hidden and in the shared layout: N namespaces, C capabilities, M
 * mounts, S seccomp, G cgroup, H helpers, D descriptors. "N C": each of them alone; "NM C": the two
 * together, or the one. Or a word: "allowed" (it is no attack and must work), "agent" (the agent
 * bears it without any wall), "open" (it works in this layout), "never" (it does not work there
 * even without the guard).
 */
struct attack {
	const char *name;
	const char *hidden, *shared;
	int (*run)(void);
	const char *what;
};

extern const struct attack attacks_signals[], attacks_processes[], attacks_kernel[],
	attacks_calls[], attacks_channel[], attacks_load[], attacks_ordinary[];

#define ATTACK_SHM_KEY 0x5e11
#define ATTACK_VSOCK_PORT 5000

/* The agent's numbers, as the attacker's PID namespace would have them. */
extern pid_t agent, agent_thread;

/* Only the lower half is a number to the kernel; a careless filter compares both. */
#define HIGH_BIT (1L << 32)

static inline int outcome(long result)
{
	return result < 0 ? errno : WORKED;
}

/* One write of a text. WORKED or the errno, of opening it, too. */
int attack_write(const char *path, const char *text);
/* WORKED when it can be opened so; it is closed again. ABSENT for ENOENT where `absent` is set. */
int attack_open(const char *path, int flags);
/* A child that runs `code` and is waited for: its exit code, or 128 + signal. */
int attack_child(int (*code)(void));
/* The kernel ran a program of ours: did it, within three seconds? */
int attack_was_planted(void);
/* This program under another name. WORKED or the errno. */
int attack_plant(const char *path);

#endif
