import { execFileSync } from 'node:child_process'
import * as files from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { PageWriter } from '../../../src/system/page-writer.ts'
import { noise } from '../repository/support.ts'

/** What the file system refuses to do past the page cache, and how often it was asked to write. */
const system = vi.hoisted(() => ({ refuses: 'nothing' as 'nothing' | 'to open' | 'to write', writes: 0 }))

vi.mock('node:fs', async (original) => {
  const real = await original<typeof files>()
  const direct = new Set<number>()
  const refusal = Object.assign(new Error('refused'), { code: 'EINVAL' })
  return {
    ...real,
    openSync(name: string, flags: number) {
      const isDirect = (flags & real.constants.O_DIRECT) !== 0
      if (isDirect && system.refuses === 'to open') throw refusal
      const fd = real.openSync(name, flags)
      direct.delete(fd)
      if (isDirect) direct.add(fd)
      return fd
    },
    writeSync(fd: number, bytes: Uint8Array, offset: number, length: number, position: number) {
      if (direct.has(fd) && system.refuses === 'to write') throw refusal
      system.writes++
      return real.writeSync(fd, bytes, offset, length, position)
    },
  }
})

let directory: string
let path: string

beforeEach(() => {
  directory = files.mkdtempSync(join(process.env['HOLDFAST_TEST_DIR'] ?? tmpdir(), 'holdfast-test-'))
  path = join(directory, 'file')
})

afterEach(() => {
  system.refuses = 'nothing'
  files.rmSync(directory, { recursive: true, force: true })
})

const source = noise(8 * 2 ** 20)

/** Writes parts, by offset and length, into a file of zeros. @returns what is in it, and what should be */
function written(size: number, parts: readonly (readonly [number, number])[]): { is: Buffer; ought: Buffer } {
  const ought = Buffer.alloc(size)
  files.writeFileSync(path, ought)
  const writer = new PageWriter()
  writer.open(path)
  for (const [offset, length] of parts) {
    const piece = Buffer.from(source.subarray((offset % 1000) * 4, (offset % 1000) * 4 + length))
    piece.copy(ought, offset)
    writer.write(piece, offset)
    piece.fill(0)
  }
  writer.close()
  return { is: files.readFileSync(path), ought }
}

describe.each(['nothing', 'to open', 'to write'] as const)('on a file system that refuses %s', (what) => {
  beforeEach(() => {
    system.refuses = what
  })

  it('puts every piece at its place, whatever its length and order', () => {
    const part = fc.tuple(fc.nat(40_000), fc.integer({ min: 1, max: 20_000 }))
    const parts = fc.array(part, { maxLength: 12 })
    fc.assert(
      fc.property(parts, (some) => {
        const { is, ought } = written(64_000, some)
        expect(is.equals(ought)).toBe(true)
      }),
      { numRuns: 60 },
    )
  })

  it('joins pieces that follow each other, over more than its room', () => {
    const parts = Array.from({ length: 100 }, (_, i) => [1000 + i * 65_537, 65_537] as const)
    system.writes = 0
    const { is, ought } = written(7 * 2 ** 20, parts)
    expect(is.equals(ought)).toBe(true)
    expect(system.writes).toBeLessThan(30)
  })
})

it('leaves large files out of the page cache', () => {
  files.writeFileSync(path, '')
  files.truncateSync(path, 6 * 2 ** 20)
  const writer = new PageWriter()
  writer.open(path)
  writer.write(source.subarray(0, 6 * 2 ** 20), 0)
  writer.close()
  expect(Number(execFileSync('fincore', ['-nbo', 'PAGES', path]).toString())).toBe(0)
})

it('a symlink in the place of the file is not followed, and nothing stays open', () => {
  files.writeFileSync(join(directory, 'elsewhere'), 'theirs')
  files.symlinkSync(join(directory, 'elsewhere'), path)
  const before = files.readdirSync('/proc/self/fd').length
  const writer = new PageWriter()
  expect(() => writer.open(path)).toThrow(/ELOOP/)
  writer.abandon()
  expect(files.readFileSync(join(directory, 'elsewhere'), 'utf8')).toBe('theirs')
  expect(files.readdirSync('/proc/self/fd').length).toBe(before)
})
