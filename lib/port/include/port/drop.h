/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Why a frame was dropped: every dropped frame is counted under exactly one of these, at the port named in the comment.
 */
#ifndef PORT_DROP_H
#define PORT_DROP_H

#define DROP_REASONS(row)                                                                         \
	/* counted at the port the frame came from */                                             \
	row(BAD_CHAIN, "bad_chain")             /* descriptors that break the specification */    \
	row(TOO_SHORT, "too_short")             /* no room for the headers */                     \
	row(TOO_LONG, "too_long")               /* more than FRAME_LEN_MAX bytes */               \
	row(BAD_OFFLOAD, "bad_offload")         /* offload words that contradict the frame */     \
	row(QUEUE_DISABLED, "queue_disabled")   /* sent on a ring the front end has disabled */   \
	row(VLAN_REFUSED, "vlan_refused")       /* tag, or its absence, not allowed on the port */ \
	row(NO_DESTINATION, "no_destination")   /* nobody to send it to, or only its sender */    \
	/* counted at the port the frame was for */                                               \
	row(PORT_DOWN, "port_down")             /* not connected, or no ring enabled */           \
	row(GUEST_NO_BUFFERS, "guest_no_buffers") /* the guest offers too few receive buffers */  \
	row(BUFFER_TOO_SMALL, "buffer_too_small") /* longer than the guest's buffers can take */  \
	row(OVER_MTU, "over_mtu")               /* longer than the port's MTU allows */           \
	row(NIC_QUEUE_FULL, "nic_queue_full")   /* the NIC does not send fast enough */           \
	row(NO_MBUF, "no_mbuf")                 /* our packet pool is empty */                    \
	row(OFFLOAD_FAILED, "offload_failed")   /* could not be segmented or summed in software */

enum drop_reason {
#define row(id, name) DROP_##id,
	DROP_REASONS(row)
#undef row
	N_DROP_REASONS,
};

/* "bad_chain" and so on. */
const char *drop_reason_name(enum drop_reason reason);

#endif
