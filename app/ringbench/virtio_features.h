/* SPDX-License-Identifier: BSD-3-Clause */
/* Which virtio feature bits to ask for: names, groups, and which bit needs which. */
#ifndef RINGBENCH_VIRTIO_FEATURES_H
#define RINGBENCH_VIRTIO_FEATURES_H

#include <stddef.h>
#include <stdint.h>

#define FEATURE(bit) (UINT64_C(1) << (bit))

/* VERSION_1, MRG_RXBUF, IN_ORDER and INDIRECT_DESC; with several queue pairs also MQ and the
 * CTRL_VQ it needs. */
uint64_t features_default(unsigned int n_queues);

/*
 * Reads "+csum,-mrg_rxbuf,...": names are switched on or off. 0, or -EINVAL with one line in
 * `error` that lists the names. "csum" and "tso" stand for both directions; VERSION_1 cannot be
 * switched off.
 */
int features_parse(const char *text, uint64_t *on, uint64_t *off, char *error, size_t error_size);

/* `features` less every bit whose prerequisite is not among them (virtio 1.3, 5.1.3.1). */
uint64_t features_consistent(uint64_t features);

/* Writes "mrg_rxbuf,in_order,..." (bits without a name as "bit 29"); cut to what fits. */
void features_print(uint64_t features, char *text, size_t size);

#endif
