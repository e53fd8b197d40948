/**
 * Frames of zstd from one compressor used again and again. Node's own one-shot call makes a compressor and a fresh output buffer each time, which costs an
 * eighth of the speed and, in a backup, a hundred megabytes of garbage. The way to use one again is not documented: it is tried
 * when this is loaded, and where it does not work as expected Node's call is used.
 */

import { constants, createZstdCompress, createZstdDecompress, zstdCompressSync, zstdDecompressSync } from 'node:zlib'

const params = { [constants.ZSTD_c_compressionLevel]: 1 }
/** Content up to this length goes through the compressor: every data chunk does. */
const longest = 4 * 2 ** 20
const outputLength = longest + longest / 64

interface Handle {
  onerror: (message: string) => void
  reset(): void
  writeSync(
    flush: number,
    input: Uint8Array,
    inputAt: number,
    inputLength: number,
    output: Uint8Array,
    outputAt: number,
    outputLength: number,
  ): void
}

/**
 * Runs `input` through a handle made for it into `output`.
 * @param wanted bytes that the output must have @returns bytes of output, or undefined when it did not all go well
 */
type Run = (input: Uint8Array, output: Uint8Array, wanted?: number) => number | undefined

/** Both begin a new frame by themselves behind one that came to its end; a reset makes a context each time, which costs. */
function reused(stream: unknown): Run | undefined {
  const { _handle: handle, _writeState: state } = stream as { _handle?: Handle; _writeState?: Uint32Array }
  if (typeof handle?.writeSync !== 'function' || typeof handle.reset !== 'function' || !state) return undefined
  let failed = false
  let isFresh = true
  handle.onerror = () => {
    failed = true
  }
  return (input, output, wanted) => {
    failed = false
    if (!isFresh) handle.reset()
    isFresh = false
    handle.writeSync(constants.ZSTD_e_end, input, 0, input.length, output, 0, output.length)
    const [roomLeft = 0, inputLeft = 0] = state
    const length = output.length - roomLeft
    if (failed || inputLeft > 0 || roomLeft === 0 || (wanted !== undefined && length !== wanted)) return undefined
    isFresh = true
    return length
  }
}

interface Pair {
  readonly compress: Run
  readonly decompress: Run
}

function probed(): Pair | undefined {
  try {
    const compress = reused(createZstdCompress({ params }))
    const decompress = reused(createZstdDecompress())
    if (!compress || !decompress) return undefined
    const works = [100_000, 7, 100_000].every((length) => {
      const content = Buffer.alloc(length, 'sample of text ')
      const room = Buffer.alloc(2 * length + 100)
      const bytes = room.subarray(0, compress(content, room))
      const back = Buffer.alloc(length + 1)
      return (
        zstdDecompressSync(bytes).equals(content) &&
        decompress(bytes, back, length) === length &&
        back.subarray(0, length).equals(content)
      )
    })
    return works ? { compress, decompress } : undefined
  } catch {
    return undefined
  }
}

let pair: Pair | undefined | null = null
let output: Buffer | undefined

/** A zstd frame of `content`; it may be overwritten by the next call. */
export function zstd(content: Uint8Array): Uint8Array {
  if (pair === null) pair = probed()
  if (pair && content.length <= longest) {
    output ??= Buffer.allocUnsafe(outputLength)
    const length = pair.compress(content, output)
    if (length !== undefined) return output.subarray(0, length)
  }
  return zstdCompressSync(content, {
    params,
    chunkSize: Math.max(1024, content.length),
    pledgedSrcSize: content.length,
  })
}

/** Gives out memory of `length` bytes. */
export type Allocate = (length: number) => Buffer

/** The content of a frame, of at most `length` bytes, in memory from `allocate`. @throws an error of Node's when it is no sound frame, or longer (by more than a byte when `length` is 0) */
export function unzstd(frame: Uint8Array, length: number, allocate: Allocate = Buffer.allocUnsafe): Uint8Array {
  if (pair === null) pair = probed()
  if (pair && length <= longest) {
    // One byte more than is wanted, so that a frame that holds more is told from one that fits.
    const content = allocate(length + 1)
    if (pair.decompress(frame, content, length) === length) return content.subarray(0, length)
  }
  return zstdDecompressSync(frame, { maxOutputLength: Math.max(1, length), chunkSize: Math.max(64, length) })
}
