import { expect, test } from 'vitest'
import { SegmentBuilder } from '../../../src/repository/segment.ts'

test('a path that a segment cannot hold is refused by its beginning', () => {
  const builder = new SegmentBuilder(() => Buffer.alloc(32))
  builder.add(Buffer.alloc(65_000, 'a'), Buffer.alloc(200, 'b'), Buffer.alloc(4))
  expect(() => builder.add(Buffer.alloc(65_400, 'a'), Buffer.alloc(200, 'b'), Buffer.alloc(4))).toThrow(
    expect.objectContaining({ code: 'FAILED_PRECONDITION', message: expect.stringContaining(`below 'aaaaa`) }),
  )
})
