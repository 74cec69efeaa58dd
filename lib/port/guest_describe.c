/* SPDX-License-Identifier: BSD-3-Clause */
/* What `port show` says of a guest port. */
#include "guest_control.h"

static const char *const state_names[] = {
	[GUEST_IDLE] = "idle",
	[GUEST_CONNECTING] = "connecting",
	[GUEST_CONNECTED] = "connected",
	[GUEST_RUNNING] = "running",
};

_Static_assert(sizeof(state_names) / sizeof(state_names[0]) == N_GUEST_STATES, "one name a state");

const char *guest_state_name(enum guest_state state)
{
	return state_names[state];
}

static json_t *describe_bits(uint64_t bits, const char *(*name_of)(unsigned int bit))
{
	json_t *names = json_array();

	for (unsigned int bit = 0; bit < 64; bit++) {
		if (!(bits >> bit & 1))
			continue;
		if (name_of(bit) != NULL)
			json_array_append_new(names, json_string(name_of(bit)));
		else
			json_array_append_new(names, json_sprintf("bit %u", bit));
	}
	return names;
}

static json_t *describe_memory(const struct gmem *mem)
{
	json_t *regions = json_array();

	for (unsigned int i = 0; mem != NULL && i < mem->n_regions; i++) {
		const struct gmem_region *region = &mem->regions[i];

		json_array_append_new(regions,
			json_pack("{s:I, s:I, s:I}", "gpa", (json_int_t)region->gpa, "size",
				(json_int_t)region->size, "uva", (json_int_t)region->uva));
	}
	return regions;
}

static json_t *describe_rings(struct guest *guest)
{
	json_t *rings = json_array();

	for (unsigned int i = 0; i < 2 * guest->n_queue_pairs; i++) {
		const struct vu_ring *ring = vu_backend_ring(guest->front_end.session, i);
		bool live = ring->state == VU_RING_RUNNING || ring->state == VU_RING_BROKEN;
		const struct rx_queue *rx = &guest->rx[i / 2].base;
		const struct guest_caller *caller =
			i % 2 == 0 ? &guest->tx[i / 2].caller : &guest->rx[i / 2].caller;

		if (ring->size == 0)
			continue;
		/* The worker goes on meanwhile: indices are a glance, exact only when traffic stands. */
		json_array_append_new(rings,
			json_pack("{s:i, s:s, s:i, s:b, s:b, s:b, s:i, s:i, s:i, s:{s:b, s:b}, s:I}", "index", (int)i,
				"dir", i % 2 == 0 ? "rx" : "tx", "size", (int)ring->size, "started",
				ring->state != VU_RING_STOPPED, "enabled", ring->enabled, "broken",
				ring->state == VU_RING_BROKEN, "avail_idx",
				live ? (int)ring->device.last_avail_idx : 0, "used_idx",
				live ? (int)ring->device.used_idx : 0, "worker",
				i % 2 == 1 ? rx->worker : -1, "vector", "masked",
				msix_is_masked(guest->msix, i), "pending",
				msix_is_pending(guest->msix, i), "calls",
				(json_int_t)__atomic_load_n(&caller->n_calls, __ATOMIC_RELAXED)));
	}
	return rings;
}

void guest_describe(struct port *port, json_t *object)
{
	struct guest *guest = guest_of(port);
	struct vu_backend *session = guest->front_end.session;
	const char *last_error = guest->front_end.last_error;

	json_object_set_new(object, "socket", json_string(guest->front_end.path));
	json_object_set_new(object, "role",
		json_string(guest->front_end.role == GUEST_ROLE_LISTEN ? "listen" : "connect"));
	json_object_set_new(object, "state", json_string(guest_state_name(guest->state)));
	json_object_set_new(object, "link", json_boolean(guest->state == GUEST_RUNNING));
	json_object_set_new(object, "queue_pairs", json_integer(guest->n_queue_pairs));
	json_object_set_new(object, "connects", json_integer((json_int_t)guest->front_end.n_begun));
	json_object_set_new(object, "coalesce",
		json_pack("{s:i, s:i}", "frames", (int)port->coalesce.frames, "us",
			(int)port->coalesce.us));
	json_object_set_new(object, "last_error", last_error[0] != '\0' ? json_string(last_error) : json_null());
	json_object_set_new(object, "numa_node",
		json_integer(guest->n_tx > 0 ? guest->tx_usable[0]->base.numa_node : -1));
	json_object_set_new(object, "peer_pid",
		json_integer(session != NULL ? (json_int_t)vu_backend_peer_pid(session) : -1));
	json_object_set_new(object, "peer_uid",
		json_integer(session != NULL ? (json_int_t)(int)vu_backend_peer_uid(session) : -1));
	json_object_set_new(object, "features",
		describe_bits(session != NULL ? vu_backend_features(session) : 0, vu_feature_name));
	json_object_set_new(object, "protocol_features",
		describe_bits(session != NULL ? vu_backend_protocol_features(session) : 0,
			vu_protocol_feature_name));
	json_object_set_new(object, "memory",
		describe_memory(session != NULL ? vu_backend_memory(session) : NULL));
	json_object_set_new(object, "rings", session != NULL ? describe_rings(guest) : json_array());
}
