/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Every thread of the agent is started here, so that every stack has the size that is printed.
 */
#ifndef CELLOS_AGENT_THREADS_H
#define CELLOS_AGENT_THREADS_H

#include <pthread.h>

#include "cellos/probe.h"

/* Sanitizers put red zones and their own frames on the stack. */
#ifdef CELLOS_SANITIZED
#define AGENT_STACK_BYTES (16u * CELLOS_PROBE_STACK_BYTES)
#else
#define AGENT_STACK_BYTES CELLOS_PROBE_STACK_BYTES
#endif

/* 0 or -errno. */
static inline int thread_start(pthread_t *thread, void *(*body)(void *), void *argument)
{
	pthread_attr_t attributes;
	int result = pthread_attr_init(&attributes);

	if (result == 0) {
		result = pthread_attr_setstacksize(&attributes, AGENT_STACK_BYTES);
		if (result == 0)
			result = pthread_create(thread, &attributes, body, argument);
		pthread_attr_destroy(&attributes);
	}
	return -result;
}

#endif
