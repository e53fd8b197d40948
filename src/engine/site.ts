/**
 * A place, opened: its object store and its repository. Runs in the process of a job, which gives all of it back when
 * it ends.
 */

import { AppError } from '../errors.ts'
import type { ObjectStore } from '../objectstore/objectstore.ts'
import { openObjectStore } from '../objectstore/open.ts'
import {
  initRepository,
  type KnownKey,
  openRepository,
  type Repository,
  type RepositoryOptions,
} from '../repository/repository.ts'
import { exec } from '../system/exec.ts'
import { readPassphrase } from './passphrase.ts'
import type { Place } from './place.ts'
import { checkFit } from './repository-directory.ts'

/** Programs end with this process, whatever ends it. */
const tools: RepositoryOptions['tools'] = {
  exec: (program, args, options) => exec(program, args, { ...options, bound: true }),
}

export class Site {
  readonly signal: AbortSignal
  readonly #place: Place
  readonly #knownKey: KnownKey | null
  readonly #onKey: (key: KnownKey) => void

  /** @param onKey gets the key when it was found by the passphrase */
  constructor(place: Place, options: { signal: AbortSignal; knownKey: KnownKey | null; onKey(key: KnownKey): void }) {
    this.signal = options.signal
    this.#place = place
    this.#knownKey = options.knownKey
    this.#onKey = options.onKey
  }

  /** @throws what `openObjectStore` throws */
  store(): Promise<ObjectStore> {
    const { url, sse, uploadLimit, downloadLimit, ...place } = this.#place
    // What was there once is not made anew in the place where a disk should be mounted.
    const create = place.create && place.repositoryId === undefined
    const options = {
      ...place,
      create,
      encryption: sse,
      upload: uploadLimit,
      download: downloadLimit,
      signal: this.signal,
    }
    return openObjectStore(url, { ...options, keyFiles: keyFilesOf(place) })
  }

  /** @throws FAILED_PRECONDITION when there is none, besides what `openRepository` throws */
  async open(): Promise<Repository> {
    const repository = await openRepository({ ...(await this.#options()), knownKey: this.#knownKey ?? undefined })
    if (repository.knownKey && repository.knownKey !== this.#knownKey) this.#onKey(repository.knownKey)
    return repository
  }

  /** Makes the repository. @throws ALREADY_EXISTS, FAILED_PRECONDITION for a directory that holds something else */
  async init(keyLabel: string): Promise<Repository> {
    const options = await this.#options()
    await checkFit(options.store)
    return initRepository({ ...options, keyLabel })
  }

  async #options(): Promise<RepositoryOptions> {
    const { passphraseFile, graceMs, repositoryId } = this.#place
    const passphrase = passphraseFile === undefined ? undefined : await readPassphrase(passphraseFile)
    return { store: await this.store(), tools, passphrase, expectedId: repositoryId, graceMs, signal: this.signal }
  }
}

function keyFilesOf({ accessKeyFile, secretKeyFile, sessionTokenFile }: Omit<Place, 'url'>) {
  if (accessKeyFile !== undefined && secretKeyFile !== undefined) {
    return { accessKeyFile, secretKeyFile, sessionTokenFile }
  }
  if (accessKeyFile === undefined && secretKeyFile === undefined) return undefined
  throw new AppError('INVALID_ARGUMENT', 'an access key file and a secret key file belong together; give both or none')
}
