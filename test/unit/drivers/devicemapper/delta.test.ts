/** What thin_delta and thin_dump print (version 0.9.0, of a pool whose devices 1 and 2 are like that), as ranges of bytes. */

import { expect, test } from 'vitest'
import { parseRanges } from '../../../../drivers/devicemapper/delta.ts'

const block = 65_536
/** A volume of 40 blocks; block 2^36 is where the label is. */
const size = 40 * block

const delta = `<superblock uuid="" time="2" transaction="0" data_block_size="128" nr_data_blocks="1000">
  <diff left="1" right="2">
    <same begin="0" length="4"/>
    <different begin="4" length="2"/>
    <same begin="6" length="2"/>
    <left_only begin="8" length="1"/>
    <left_only begin="20" length="1"/>
    <right_only begin="30" length="1"/>
    <same begin="68719476736" length="1"/>
  </diff>
</superblock>
`
const dump = `<superblock uuid="" time="2" transaction="0" flags="0" version="1" data_block_size="128" nr_data_blocks="1000">
  <device dev_id="2" mapped_blocks="10" transaction="0" creation_time="1" snap_time="1">
    <range_mapping origin_begin="0" data_begin="100" length="4" time="0"/>
    <range_mapping origin_begin="4" data_begin="130" length="2" time="2"/>
    <range_mapping origin_begin="6" data_begin="106" length="2" time="0"/>
    <single_mapping origin_block="30" data_block="122" time="2"/>
    <single_mapping origin_block="68719476736" data_block="140" time="1"/>
  </device>
</superblock>
`
const blocks = (...ranges: [number, number][]) =>
  ranges.map(([start, end]) => ({ start: start * block, end: end * block }))
const ofDelta = ['same', 'different', 'right_only']
const ofDump = ['range_mapping', 'single_mapping']

test('what differs, freed blocks included, neighbours as one', () => {
  const changed = parseRanges(delta, ['different', 'left_only', 'right_only'], block, size)
  expect(changed).toEqual(blocks([4, 6], [8, 9], [20, 21], [30, 31]))
})

test('what there is, by either program, without the label', () => {
  const allocated = blocks([0, 8], [30, 31])
  expect(parseRanges(delta, ofDelta, block, size)).toEqual(allocated)
  expect(parseRanges(dump, ofDump, block, size)).toEqual(allocated)
})

test('the last range ends with the volume, which need not be whole blocks', () => {
  const end = 30 * block + 4096
  expect(parseRanges(dump, ofDump, block, end).at(-1)).toEqual({ start: 30 * block, end })
  expect(parseRanges(dump, ofDump, block, 30 * block)).toEqual(blocks([0, 8]))
})

test('other sizes of blocks', () => {
  const [first] = parseRanges(dump, ofDump, 2 ** 20, 2 ** 30)
  expect(first).toEqual({ start: 0, end: 8 * 2 ** 20 })
})

test('of an empty device nothing is there', () => {
  const empty =
    '<superblock uuid="" data_block_size="128">\n  <device dev_id="3" mapped_blocks="0">\n  </device>\n</superblock>'
  expect(parseRanges(empty, ofDump, block, size)).toEqual([])
})
