/**
 * URLs of stores: `s3://BUCKET[@REGION][/PREFIX]`, `file:///DIR`, or `vfs:///DIR`, which means the same. A URL never holds keys: one
 * that does is refused and not repeated. No I/O, and cheap to load.
 */

import { normalize } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { AppError } from '../errors.ts'
import { isKey } from './objectstore.ts'

type StoreUrl =
  | { readonly kind: 'dir'; readonly path: string }
  | { readonly kind: 's3'; readonly bucket: string; readonly region?: string; readonly prefix: string }

const s3Pattern = /^s3:\/\/([a-zA-Z0-9][a-zA-Z0-9._-]{2,62})(?:@([a-z0-9-]{1,40}))?(?:\/(.*))?$/
const forms = 'use s3://BUCKET@REGION/PREFIX or file:///DIRECTORY'

/** Takes a URL apart. @throws INVALID_ARGUMENT */
export function parseStoreUrl(url: string): StoreUrl {
  if (/^(file|vfs):\/\//.test(url)) return { kind: 'dir', path: parseDirectory(url) }
  const [, bucket, region, path = ''] = s3Pattern.exec(url) ?? []
  const prefix = path.replace(/^\/+|\/+$/g, '')
  if (bucket !== undefined && (prefix === '' || isKey(prefix))) {
    return { kind: 's3', bucket, prefix, ...(region !== undefined && { region }) }
  }
  // Whatever stands before an @ may be keys.
  const shown = url.includes('@') ? 'what was given' : `'${url}'`
  throw new AppError('INVALID_ARGUMENT', `${shown} is not the URL of a store; ${forms}; keys go into key files`)
}

function parseDirectory(url: string): string {
  try {
    const parsed = new URL(url.replace(/^vfs:/, 'file:'))
    if (parsed.search === '' && parsed.hash === '' && parsed.hostname === '') return fileURLToPath(parsed)
  } catch {
    // It is no URL at all.
  }
  throw new AppError('INVALID_ARGUMENT', `'${url}' does not name an absolute directory; ${forms}`)
}

/** The one form of a URL that names the same store. @throws INVALID_ARGUMENT */
export function normalizeStoreUrl(url: string): string {
  const parsed = parseStoreUrl(url)
  if (parsed.kind === 'dir') return pathToFileURL(normalize(parsed.path)).href.replace(/(file:\/\/\/.+)\/$/, '$1')
  const region = parsed.region === undefined ? '' : `@${parsed.region}`
  return `s3://${parsed.bucket}${region}${parsed.prefix === '' ? '' : `/${parsed.prefix}`}`
}
