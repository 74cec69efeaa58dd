/* SPDX-License-Identifier: BSD-3-Clause */
/* Which instance of the run engine a ring gets. */
#include "run_internal.h"

static const char *const isa_names[] = {
	[VRING_ISA_PORTABLE] = "portable",
	[VRING_ISA_AVX2] = "avx2",
	[VRING_ISA_AVX512] = "avx512",
};
_Static_assert(sizeof(isa_names) / sizeof(isa_names[0]) == VRING_N_ISAS, "one name each");

/* Set before threads use rings. */
static enum vring_isa isa_limit = VRING_N_ISAS - 1;

const char *vring_isa_name(enum vring_isa isa)
{
	return (unsigned int)isa < VRING_N_ISAS ? isa_names[isa] : "unknown";
}

static enum vring_isa isa_of_cpu(void)
{
#ifdef VRING_HAS_AVX
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
		__builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
		return VRING_ISA_AVX512;
	if (__builtin_cpu_supports("avx2"))
		return VRING_ISA_AVX2;
#endif
	return VRING_ISA_PORTABLE;
}

enum vring_isa vring_isa_best(void)
{
	enum vring_isa isa = isa_of_cpu();

	return isa < isa_limit ? isa : isa_limit;
}

void vring_isa_limit(enum vring_isa isa)
{
	isa_limit = isa;
}

const struct vring_run_ops *run_choose(const struct vring_config *config)
{
	static const struct vring_run_ops *const instances[VRING_N_ISAS] = {
		[VRING_ISA_PORTABLE] = run_portable,
#ifdef VRING_HAS_AVX
		[VRING_ISA_AVX2] = run_avx2,
		[VRING_ISA_AVX512] = run_avx512,
#endif
	};
	enum run_kind kind = config->packed ? (config->in_order ? RUN_PACKED_IN_ORDER : RUN_PACKED)
					    : (config->in_order ? RUN_SPLIT_IN_ORDER : RUN_SPLIT);

	return &instances[vring_isa_best()][kind];
}
