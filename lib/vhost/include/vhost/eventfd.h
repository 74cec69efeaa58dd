/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Notification descriptors that come from a peer.
 *
 * A peer can send anything as kick, call or error descriptor: a pipe that fills up, a file that
 * fills a disk, a timer that is always readable. Only eventfds are taken. O_NONBLOCK is no
 * protection, because the flag belongs to the open file that both sides share.
 */
#ifndef VHOST_EVENTFD_H
#define VHOST_EVENTFD_H

/*
 * 0, or -EINVAL if `fd` is not an eventfd, or is one in semaphore mode (which stays readable after
 * a read; kernels before 6.5 do not tell). Needs /proc. Control thread.
 */
int vu_eventfd_check(int fd);

/*
 * Adds one to the counter; fd < 0 is allowed. Never sleeps, whatever the peer does to the counter
 * or the flags meanwhile: the kernel is asked to signal the eventfd by itself, as the completion of
 * a read. (Where kernel AIO is missing this is a look and a write, and a peer that fills the
 * counter between the two can hold the caller.) Some microseconds: for the control thread.
 * 0, -EAGAIN: the counter is full, hence readable already; or a negative errno.
 */
int vu_eventfd_signal(int fd);

#endif
