/**
 * Gives memory back at once. Chunks pass through a worker faster than its garbage collector looks at the few small objects that hold them: left to it,
 * a hundred megabytes of dead bytes would lie about.
 */

/** Shorter ones may share their memory with others. */
const shortest = 8 * 1024

/**
 * Frees the memory of `bytes`, which nobody must use any more. Does nothing for bytes that are short, or a part of something larger (by more than the one
 * byte that a decompressor needs on top).
 */
export function release(bytes: Uint8Array): void {
  const { buffer } = bytes
  const isOwn = buffer.byteLength >= shortest && buffer.byteLength - bytes.byteLength <= 1
  if (isOwn && buffer instanceof ArrayBuffer) buffer.transfer(0)
}
