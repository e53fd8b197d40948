/**
 * What S3 servers and the network answer, as `AppError`s that say what to do. Codes are those of Amazon's "Error
 * responses" list and of Ceph, MinIO and Swift where theirs differ; a code that is not listed is judged by its HTTP
 * status. Of the SDK's errors only code, message, status and request id are taken over: they also hold the request,
 * whose headers are nobody's business.
 */

import { AppError, type ErrorCode, errno } from '../errors.ts'

/** What was asked of which store; both parts go in front of every message. */
export interface S3Place {
  /** `s3://BUCKET/PREFIX at ENDPOINT`. */
  readonly store: string
  readonly bucket: string
  readonly storageClass?: string | undefined
}

type Verdict = readonly [ErrorCode, remedy: string]

const renewKey = 'see whether the access key and the secret key belong together and are still valid'

/** By S3's `Code`. */
const serviceCodes: Readonly<Record<string, Verdict>> = {
  NoSuchKey: ['NOT_FOUND', ''],
  NotFound: ['NOT_FOUND', ''],
  NoSuchBucket: ['FAILED_PRECONDITION', 'create the bucket, or correct the URL, its region or the endpoint'],
  AccessDenied: [
    'PERMISSION_DENIED',
    'allow s3:GetObject, PutObject, DeleteObject and ListBucket to these credentials',
  ],
  Forbidden: ['PERMISSION_DENIED', 'allow s3:GetObject, PutObject, DeleteObject and ListBucket to these credentials'],
  AllAccessDisabled: ['PERMISSION_DENIED', 'see whether the account is in order'],
  InvalidAccessKeyId: ['PERMISSION_DENIED', 'this server does not know the access key; correct it'],
  SignatureDoesNotMatch: ['PERMISSION_DENIED', 'correct the secret key'],
  InvalidToken: ['PERMISSION_DENIED', renewKey],
  ExpiredToken: ['PERMISSION_DENIED', 'the credentials have expired; renew them'],
  TokenRefreshRequired: ['PERMISSION_DENIED', 'the credentials have expired; renew them'],
  RequestTimeTooSkewed: ['UNAVAILABLE', "set this node's clock right"],
  SlowDown: ['UNAVAILABLE', 'the server asks to slow down; use fewer parallel transfers'],
  TooManyRequests: ['UNAVAILABLE', 'the server asks to slow down; use fewer parallel transfers'],
  RequestTimeout: ['TIMEOUT', 'see whether the network is fast enough for so many parallel transfers'],
  ConditionalRequestConflict: ['ABORTED', 'another writer was at it; try again'],
  OperationAborted: ['ABORTED', 'another writer was at it; try again'],
  PreconditionFailed: ['ALREADY_EXISTS', ''],
  BadDigest: ['UNAVAILABLE', 'the data was damaged on its way'],
  XAmzContentSHA256Mismatch: ['UNAVAILABLE', 'the data was damaged on its way'],
  XAmzContentChecksumMismatch: ['UNAVAILABLE', 'the data was damaged on its way'],
  IncompleteBody: ['UNAVAILABLE', 'the upload was cut off'],
  QuotaExceeded: ['NO_SPACE', 'free space in the bucket or raise its quota'],
  XMinioStorageFull: ['NO_SPACE', 'the server is full; free or add space'],
  XMinioAdminBucketQuotaExceeded: ['NO_SPACE', 'free space in the bucket or raise its quota'],
  InsufficientStorage: ['NO_SPACE', 'the server is full; free or add space'],
  EntityTooLarge: ['NOT_SUPPORTED', 'the server does not take objects of this size'],
  NotImplemented: ['NOT_SUPPORTED', 'the server does not know this request'],
  MethodNotAllowed: ['NOT_SUPPORTED', 'the server does not know this request'],
  InvalidRange: ['CORRUPT', 'the object is shorter than it was; verify the repository'],
  InvalidObjectState: ['FAILED_PRECONDITION', 'it lies in an archive class; bring it back to a readable one first'],
  InvalidStorageClass: ['INVALID_ARGUMENT', 'name a storage class that the server has'],
  PermanentRedirect: ['FAILED_PRECONDITION', 'name the region of the bucket: s3://BUCKET@REGION'],
  AuthorizationHeaderMalformed: ['FAILED_PRECONDITION', 'name the region of the bucket: s3://BUCKET@REGION'],
  IllegalLocationConstraintException: ['FAILED_PRECONDITION', 'name the region of the bucket: s3://BUCKET@REGION'],
  'KMS.DisabledException': ['FAILED_PRECONDITION', 'enable the KMS key'],
  'KMS.NotFoundException': ['FAILED_PRECONDITION', 'name a KMS key that exists in this region'],
  'KMS.KMSInvalidStateException': ['FAILED_PRECONDITION', 'see whether the KMS key is enabled'],
  CredentialsProviderError: ['FAILED_PRECONDITION', 'give key files, or a profile or role that the AWS tools find'],
}

const unreachable: Verdict = ['UNAVAILABLE', 'see whether the endpoint is right and its server is up']
const untrusted: Verdict = [
  'FAILED_PRECONDITION',
  'give the certificate of its authority (CA file), or correct the endpoint',
]

/** By Node's code for the connection. */
const networkCodes: Readonly<Record<string, Verdict>> = {
  ECONNREFUSED: unreachable,
  ECONNRESET: unreachable,
  EPIPE: unreachable,
  ENOTFOUND: ['UNAVAILABLE', 'see whether the name of the endpoint is right and names are resolved on this node'],
  EAI_AGAIN: ['UNAVAILABLE', 'names are not resolved on this node at the moment'],
  EHOSTUNREACH: unreachable,
  ENETUNREACH: unreachable,
  ENETDOWN: unreachable,
  ETIMEDOUT: ['TIMEOUT', unreachable[1]],
  SELF_SIGNED_CERT_IN_CHAIN: untrusted,
  DEPTH_ZERO_SELF_SIGNED_CERT: untrusted,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: untrusted,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: untrusted,
  CERT_HAS_EXPIRED: ['FAILED_PRECONDITION', "renew the server's certificate, or set this node's clock right"],
  ERR_TLS_CERT_ALTNAME_INVALID: untrusted,
  EPROTO: ['FAILED_PRECONDITION', 'the server does not speak TLS; is it http://?'],
}

/** The part of the SDK's errors that is looked at. */
interface ServiceError {
  readonly name?: string
  readonly message?: string
  readonly Code?: string
  readonly $metadata?: { readonly httpStatusCode?: number; readonly requestId?: string }
}

/** The S3 code of an error, such as `NoSuchKey`, or the name of an error that did not come from the server. */
function serviceCode(error: unknown): string {
  const { Code, name } = (error ?? {}) as ServiceError
  return Code ?? name ?? ''
}

/** The error for a failed request, in one line; an `AppError` is returned as it is. */
export function s3Error(place: S3Place, doing: string, error: unknown): AppError {
  if (error instanceof AppError) return error
  const { $metadata } = (error ?? {}) as ServiceError
  const status = $metadata?.httpStatusCode
  const service = serviceCode(error)
  const [code, remedy] =
    service === 'InvalidArgument' && place.storageClass
      ? (['INVALID_ARGUMENT', `see whether the server has the storage class ${place.storageClass}`] as const)
      : judge(error, service, status)
  const details = { service, status: status ?? null, requestId: $metadata?.requestId ?? null }
  const parts = [doing, factOf(error, service, status)].filter((it) => it !== '').join(': ')
  return new AppError(code, `${place.store}: ${parts}${remedy && `; ${remedy}`}`, { details })
}

/** What the SDK says when the server has said nothing. */
const nothing = ['', 'Error', 'Unknown', 'UnknownError', '[object Object]']

function factOf(error: unknown, service: string, status: number | undefined): string {
  // OpenSSL's text is for its authors.
  if (errno(error) === 'EPROTO') return ''
  const { message = error instanceof Object ? '' : String(error) } = (error ?? {}) as ServiceError
  const said = [service, message.replace(/\s+/g, ' ').slice(0, 200)].filter((it) => !nothing.includes(it))
  return said.join(': ') || (status === undefined ? '' : `HTTP ${status}`)
}

function judge(error: unknown, service: string, status: number | undefined): Verdict {
  const known = serviceCodes[service] ?? networkCodes[errno(error) ?? '']
  if (known) return known
  if (service === 'TimeoutError') return ['TIMEOUT', unreachable[1]]
  if (/region is missing/i.test((error as Error | undefined)?.message ?? '')) {
    return ['INVALID_ARGUMENT', 'name it in the URL: s3://BUCKET@REGION/PREFIX']
  }
  return judgeStatus(status)
}

function judgeStatus(status: number | undefined): Verdict {
  if (status === undefined) return ['INTERNAL', '']
  if (status === 301 || status === 307) return serviceCodes['PermanentRedirect'] as Verdict
  if (status === 401 || status === 403) return ['PERMISSION_DENIED', renewKey]
  if (status === 404) return ['NOT_FOUND', '']
  if (status === 501) return serviceCodes['NotImplemented'] as Verdict
  if (status === 507) return serviceCodes['InsufficientStorage'] as Verdict
  if (status === 408) return ['TIMEOUT', unreachable[1]]
  if (status === 429 || status >= 500) return ['UNAVAILABLE', 'the server has a problem; see its log if it stays']
  // An answer that is no S3 answer, such as the page of a proxy.
  if (status < 400) return ['UNAVAILABLE', 'the answer was cut off, or the endpoint is not an S3 server']
  return ['FAILED_PRECONDITION', 'see whether the endpoint is an S3 server and knows this request']
}
