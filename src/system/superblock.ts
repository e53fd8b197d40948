/**
 * Which file system is on a block device or in an image, and how large it is, as its super block says. Of one that is mounted
 * the super block may be old.
 * Facts: the magic numbers and fields in ext4's and XFS' super blocks.
 */

import { open } from 'node:fs/promises'
import type { Bytes } from '../model.ts'

/** What a super block says. */
export interface SuperBlock {
  readonly fs: 'ext4' | 'xfs'
  readonly size: Bytes
}

/** @returns null when there is neither ext4 nor XFS */
export async function readSuperBlock(path: string): Promise<SuperBlock | null> {
  const block = await readStart(path)
  if (block.toString('latin1', 0, 4) === 'XFSB') return { fs: 'xfs', size: xfsSize(block) }
  if (block.readUInt16LE(1024 + 56) === 0xef53) return { fs: 'ext4', size: ext4Size(block) }
  return null
}

/** What holds the super block; zeros where the file ends before. */
async function readStart(path: string): Promise<Buffer> {
  const file = await open(path, 'r')
  try {
    return (await file.read(Buffer.alloc(2048), 0, 2048, 0)).buffer
  } finally {
    await file.close()
  }
}

function xfsSize(block: Buffer): Bytes {
  return block.readUInt32BE(4) * Number(block.readBigUInt64BE(8))
}

function ext4Size(block: Buffer): Bytes {
  const blocks = block.readUInt32LE(1024 + 0x150) * 2 ** 32 + block.readUInt32LE(1024 + 4)
  return blocks * 1024 * 2 ** block.readUInt32LE(1024 + 24)
}
