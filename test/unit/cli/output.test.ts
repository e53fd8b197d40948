import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { formatFields, formatMap, formatSpan, formatTable } from '../../../src/cli/output.ts'

const module = path.resolve(import.meta.dirname, '../../../src/cli/output.ts')
const length = 1_000_000
const program = `const { processStreams } = await import('${module}'); processStreams.stdout('x'.repeat(${length})); process.exit(0)`

let directory: string

beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), 'holdfast-output-'))
})

afterEach(() => rmSync(directory, { recursive: true, force: true }))

describe('text', () => {
  it('is aligned in columns', () => {
    expect(
      formatTable(
        ['A', 'LONG'],
        [
          ['wide one', ''],
          ['b', 'c'],
        ],
      ),
    ).toBe('A          LONG\nwide one\nb          c')
    expect(formatTable(['A', 'B'], [])).toBe('A   B')
    expect(
      formatFields([
        ['a', '1'],
        ['long', ''],
        ['bc', '2'],
      ]),
    ).toBe('a:    1\nlong:\nbc:   2')
    expect(formatMap({ a: 'b', c: '' })).toBe('a=b, c=')
    expect(formatMap({})).toBe('-')
  })

  it('shows control characters instead of sending them to the terminal', () => {
    expect(formatTable(['A'], [['a\u001b[31m\nb\u009b']])).toBe('A\na\\u001b[31m\\nb\\u009b')
  })

  it.each([
    [-5, '0 seconds'],
    [1999, '1 second'],
    [59_999, '59 seconds'],
    [60_000, '1 minute'],
    [7_200_000, '2 hours'],
    [86_400_000 * 400, '400 days'],
  ])('says %d ms as %s', (ms, expected) => {
    expect(formatSpan(ms)).toBe(expected)
  })

  it.each([
    [-5, '0 seconds'],
    [500, '1 second'],
    [86_400_000 - 700, '24 hours'],
    [3_600_001, '2 hours'],
  ])('says %d ms that are left as %s', (ms, expected) => {
    expect(formatSpan(ms, Math.ceil)).toBe(expected)
  })
})

describe('the process', () => {
  it('writes all of it into a pipe that does not block and is read slowly', async () => {
    const fifo = path.join(directory, 'fifo')
    expect(spawnSync('mkfifo', [fifo]).status).toBe(0)
    const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK)
    const writer = openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK)
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', writer, 'inherit'],
    })
    closeSync(writer)
    const ended = once(child, 'close')
    await setTimeout(500)
    let read = 0
    const buffer = Buffer.alloc(65_536)
    while (read < length) {
      try {
        const count = readSync(reader, buffer)
        if (count === 0) break
        read += count
      } catch (error) {
        expect(error).toMatchObject({ code: 'EAGAIN' })
        await setTimeout(5)
      }
    }
    closeSync(reader)
    expect([read, ...(await ended)]).toEqual([length, 0, null])
  })

  it('ends quietly when its reader has gone', async () => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'pipe'] })
    let stderr = ''
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk
    })
    child.stdout.destroy()
    expect([...(await once(child, 'close')), stderr]).toEqual([0, null, ''])
  })
})
