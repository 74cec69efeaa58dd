/* SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>

#include "internal.h"

/* Offsets come from a driver. `end` is a multiple of 8, so an aligned access that begins before it ends before it. */
static bool access_is_legal(uint64_t offset, unsigned int size, size_t end)
{
	return (size == 4 || size == 8) && offset % size == 0 && offset < end;
}

size_t msix_table_bytes(const struct msix *msix)
{
	return (size_t)msix->n_vectors * MSIX_ENTRY_BYTES;
}

size_t msix_pba_bytes(const struct msix *msix)
{
	return (msix->n_vectors + 63u) / 64 * 8;
}

int msix_table_read(const struct msix *msix, uint64_t offset, unsigned int size, uint64_t *value)
{
	const uint32_t *dword;

	if (!access_is_legal(offset, size, msix_table_bytes(msix))) {
		*value = UINT64_MAX;
		return -EINVAL;
	}
	dword = &msix->vectors[offset / MSIX_ENTRY_BYTES].entry[offset % MSIX_ENTRY_BYTES / 4];
	*value = dword[0];
	if (size == 8)
		*value |= (uint64_t)dword[1] << 32;
	return 0;
}

static void table_write_dword(struct msix *msix, uint64_t offset, uint32_t value)
{
	unsigned int vector = (unsigned int)(offset / MSIX_ENTRY_BYTES);
	enum msix_dword dword = (enum msix_dword)(offset % MSIX_ENTRY_BYTES / 4);

	msix->vectors[vector].entry[dword] = value & msix_writable_bits(dword);
	if (dword == MSIX_VECTOR_CONTROL)
		msix_settle(msix, vector);
}

int msix_table_write(struct msix *msix, uint64_t offset, unsigned int size, uint64_t value)
{
	if (!access_is_legal(offset, size, msix_table_bytes(msix)))
		return -EINVAL;
	table_write_dword(msix, offset, (uint32_t)value);
	if (size == 8)
		table_write_dword(msix, offset + 4, (uint32_t)(value >> 32));
	return 0;
}

int msix_pba_read(const struct msix *msix, uint64_t offset, unsigned int size, uint64_t *value)
{
	unsigned int first;

	if (!access_is_legal(offset, size, msix_pba_bytes(msix))) {
		*value = UINT64_MAX;
		return -EINVAL;
	}
	*value = 0;
	first = (unsigned int)offset * 8;
	for (unsigned int bit = 0; bit < size * 8 && first + bit < msix->n_vectors; bit++)
		*value |= (uint64_t)msix_is_pending(msix, first + bit) << bit;
	return 0;
}

uint16_t msix_control_read(const struct msix *msix)
{
	return (uint16_t)(msix->control | (msix->n_vectors - 1));
}

void msix_control_write(struct msix *msix, uint16_t value)
{
	msix->control = value & CONTROL_WRITABLE;
	msix_settle_all(msix);
}
