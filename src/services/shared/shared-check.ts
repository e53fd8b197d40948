/** What is wrong with volumes on storage that several nodes use, as far as this node has heard. Changes nothing. */

import type { Finding } from '../../model.ts'
import type { Core } from '../core.ts'

/** Volumes that are hidden by one of this node's alone, and those that this node has lost its right to. */
export function checkShared({ catalog, shared: { views } }: Core): Finding[] {
  const standing = views.impostors().filter(({ name, driver }) => catalog.volume(name)?.driver === driver)
  const impostors = standing.map(({ name, driver, storage }): Finding => {
    return {
      severity: 'error',
      check: 'impostor',
      subject: name,
      message: `this node has a volume ${name} of its own (driver ${driver}): containers here get that one instead of the one on ${storage}`,
      remedy: `save what it holds, then: holdfast volume rm ${name}`,
    }
  })
  const losses = views.losses().map(({ volumeId, detail }): Finding => {
    const name = catalog.volumeById(volumeId)?.name ?? volumeId
    return {
      severity: 'error',
      check: 'right-lost',
      subject: name,
      message: `volume ${name} is not this node's any more: ${detail}`,
      remedy: 'stop the containers that use it here, and compare what they wrote last with what the other node has',
    }
  })
  return [...impostors, ...losses]
}
