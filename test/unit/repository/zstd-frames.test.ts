/** Frames of zstd, with a compressor that can be used again and with one of a Node that has changed. */

import { afterEach, expect, test, vi } from 'vitest'
import { noise } from './support.ts'

const contents = [0, 1, 63, 100_000, 2 ** 20, 4 * 2 ** 20, 4 * 2 ** 20 + 1].map((length) =>
  Buffer.concat([noise(length >> 1), Buffer.alloc(length - (length >> 1), 'text ')]),
)

afterEach(() => {
  vi.doUnmock('node:zlib')
  vi.resetModules()
})

/** What a Node might do whose streams have other insides. */
const insides = {
  'as it is': (stream: object) => stream,
  'without a handle': () => ({}),
  'with a handle that throws': () => ({
    _handle: {
      reset: () => undefined,
      writeSync: () => {
        throw new Error('changed')
      },
    },
    _writeState: new Uint32Array(2),
  }),
  'with a handle that does nothing': () => ({
    _handle: { reset: () => undefined, writeSync: () => undefined },
    _writeState: new Uint32Array(2),
  }),
}

test.each(Object.entries(insides))('a stream %s: frames are sound and come back', async (_, inside) => {
  const zlib = await vi.importActual<typeof import('node:zlib')>('node:zlib')
  vi.resetModules()
  vi.doMock('node:zlib', () => ({
    ...zlib,
    createZstdCompress: (options: object) => inside(zlib.createZstdCompress(options)),
    createZstdDecompress: () => inside(zlib.createZstdDecompress()),
  }))
  const { zstd, unzstd } = await import('../../../src/repository/zstd-frames.ts')
  for (const content of contents) {
    const frame = Buffer.from(zstd(content))
    expect(zlib.zstdDecompressSync(frame).equals(content)).toBe(true)
    expect(content.equals(unzstd(frame, content.length))).toBe(true)
    if (content.length < 2) continue // Node allows no output shorter than a byte; decompress() compares lengths.
    expect(() => unzstd(frame, content.length - 1)).toThrow()
    expect(() => unzstd(frame.subarray(0, -1), content.length)).toThrow()
  }
})
