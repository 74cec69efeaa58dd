/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Notification descriptors that come from a peer.
 *
 * A peer can send anything as kick, call or error descriptor: a pipe that fills up, a file that fills a disk, a timer
 * that is always readable. Only eventfds are taken. O_NONBLOCK is no protection, because the flag belongs to the open
 * file that both sides share.
 */
#ifndef VHOST_EVENTFD_H
#define VHOST_EVENTFD_H

/*
 * 0, or -EINVAL if `fd` is not an eventfd, or is one in semaphore mode (which stays readable after a read; kernels
 * before 6.5 do not tell). Needs /proc. Control thread.
 */
int vu_eventfd_check(int fd);

/*
 * Adds one to the counter, unless that would block: a counter that is full is readable already. fd < 0 is allowed.
 * 0, -EAGAIN (full), or a negative errno. The look at the counter and the write are two steps: a peer that fills the
 * counter in between can hold the caller until it reads, so a caller that serves others bounds its wait itself.
 */
int vu_eventfd_signal(int fd);

#endif
