/**
 * Frames of zstd from one compressor used again and again. Node's own one-shot call makes a compressor and a fresh output buffer each time, which costs an
 * eighth of the speed and, in a backup, a hundred megabytes of garbage. The way to use one again is not documented: it is tried
 * when this is loaded, and where it does not work as expected Node's call is used.
 */

import { constants, createZstdCompress, zstdCompressSync, zstdDecompressSync } from 'node:zlib'

const params = { [constants.ZSTD_c_compressionLevel]: 1 }
/** Content up to this length goes through the compressor: every data chunk does. */
const longest = 4 * 2 ** 20
const outputLength = longest + longest / 64

interface Handle {
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

type Frame = (content: Uint8Array) => Uint8Array | undefined

function reusedCompressor(): Frame | undefined {
  const stream = createZstdCompress({ params }) as unknown as { _handle?: Handle; _writeState?: Uint32Array }
  const { _handle: handle, _writeState: state } = stream
  if (typeof handle?.writeSync !== 'function' || typeof handle.reset !== 'function' || !state) return undefined
  let output: Buffer | undefined
  return (content) => {
    output ??= Buffer.allocUnsafe(outputLength)
    handle.reset()
    handle.writeSync(constants.ZSTD_e_end, content, 0, content.length, output, 0, output.length)
    const [roomLeft = 0, inputLeft = 0] = state
    return inputLeft === 0 && roomLeft > 0 ? output.subarray(0, output.length - roomLeft) : undefined
  }
}

function probed(): Frame | undefined {
  try {
    const frame = reusedCompressor()
    const sample = Buffer.alloc(100_000, 'sample of text ')
    const works = [sample, sample.subarray(7)].every((content) => {
      const bytes = frame?.(content)
      return bytes !== undefined && zstdDecompressSync(bytes).equals(content)
    })
    return works ? frame : undefined
  } catch {
    return undefined
  }
}

let reused: Frame | undefined | null = null

/** A zstd frame of `content`; it may be overwritten by the next call. */
export function zstd(content: Uint8Array): Uint8Array {
  if (reused === null) reused = probed()
  const bytes = content.length <= longest ? reused?.(content) : undefined
  if (bytes) return bytes
  return zstdCompressSync(content, {
    params,
    chunkSize: Math.max(1024, content.length),
    pledgedSrcSize: content.length,
  })
}
