/** Targets: named repositories. What they hold stays when they are forgotten; secrets are read from their files at each use, by the engine. */

import { isDeepStrictEqual } from 'node:util'
import { dropTarget, forgetBases, insertTarget } from '../../catalog/changes.ts'
import { AppError } from '../../errors.ts'
import type { StoreAccess, Target } from '../../model.ts'
import { parseTargetName } from '../../units.ts'
import type { Core } from '../core.ts'
import { now } from '../now.ts'
import type { PassphraseView, TargetCheck, TargetService, TargetView } from './contract.ts'
import { checkAccess, checkFile, parseRepositoryUrl, placeOf, requireTarget } from './repositories.ts'
import { requireApart } from './target-place.ts'

export class Targets implements TargetService {
  readonly #core: Core

  constructor(core: Core) {
    this.#core = core
  }

  add(name: string, given: string, access?: StoreAccess): Promise<TargetView> {
    const url = parseRepositoryUrl(given)
    const wanted = { name: parseTargetName(name), url, access: checkAccess(url, access) }
    return this.#core.locks.with([`target:${name}`], `target ${name} is being added`, async () => {
      const existing = this.#core.catalog.target(name)
      if (existing) return this.#stillThere(satisfied(existing, wanted))
      await requireApart(this.#core, url)
      const place = { ...placeOf(wanted), create: true }
      const { repositoryId, encryption } = await this.#core.engine.run(place, 'init', { label: 'target add' })
      const target = { ...wanted, repositoryId, encrypted: encryption !== 'none', createdAt: now() }
      await this.#core.catalog.write(insertTarget(target))
      return target
    })
  }

  list(): TargetView[] {
    return this.#core.catalog.targets()
  }

  /** @throws FAILED_PRECONDITION when its repository is gone, or another one is in its place */
  async #stillThere(target: Target): Promise<Target> {
    await this.#core.engine.run(placeOf(target), 'open', {})
    return target
  }

  inspect(name: string): TargetView {
    return requireTarget(this.#core, name)
  }

  async remove(name: string): Promise<void> {
    const { repositoryId } = this.inspect(name)
    const schedules = this.#core.catalog.schedules().filter(({ target }) => target === name)
    if (schedules.length > 0) {
      const names = schedules.map((schedule) => schedule.name)
      const users = `schedule${names.length === 1 ? '' : 's'} ${names.join(', ')}`
      const remedy = `first run: holdfast schedule rm ${names.join(' ')}`
      throw new AppError('IN_USE', `target ${name} is used by ${users}; ${remedy}`)
    }
    // Nobody would ever remove the snapshots that are kept for it.
    const isLast = !this.#core.catalog.targets().some((it) => it.name !== name && it.repositoryId === repositoryId)
    await this.#core.catalog.write(dropTarget(name), ...(isLast ? [forgetBases(repositoryId)] : []))
  }

  async check(name: string): Promise<TargetCheck> {
    const target = this.inspect(name)
    // Nothing is written where another repository is, or none: its disk may not be mounted.
    const backups = await this.#core.engine.run(placeOf(target), 'listBackups', {})
    const { ifAbsent, listing, facts } = await this.#core.engine.run(placeOf(target), 'probe', {})
    const { kind, details } = facts
    return { name, url: target.url, store: { kind, ifAbsent, listing, details }, backups: backups.length }
  }

  passphrases(name: string): Promise<PassphraseView[]> {
    return this.#core.engine.run(placeOf(this.inspect(name)), 'listPassphrases', {})
  }

  addPassphrase(name: string, file: string, label = 'target passphrase add'): Promise<PassphraseView> {
    const args = { file: checkFile(file), label }
    return this.#core.engine.run(placeOf(this.inspect(name)), 'addPassphrase', args)
  }

  async removePassphrase(name: string, id: string): Promise<void> {
    await this.#core.engine.run(placeOf(this.inspect(name)), 'removePassphrase', { id })
  }
}

/** @throws ALREADY_EXISTS when the target is another one */
function satisfied(existing: Target, wanted: Pick<Target, 'url' | 'access'>): Target {
  if (existing.url === wanted.url && isDeepStrictEqual(existing.access, wanted.access)) return existing
  throw new AppError(
    'ALREADY_EXISTS',
    `target ${existing.name} exists, for ${existing.url}, or with other settings; take another name, or remove it first`,
  )
}
