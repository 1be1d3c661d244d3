import { Fault } from '../runtime/fault.ts';

/** A trust domain's name, e.g. `example.org`: 1 to 255 of `a-z 0-9 . - _`. */
export type TrustDomain = string & { readonly __brand: 'TrustDomain' };

const SCHEME = 'spiffe://';
const TRUST_DOMAIN = /^[a-z0-9._-]{1,255}$/;
const SEGMENT = /^(?!\.{1,2}$)[A-Za-z0-9._-]+$/;
const RESERVED = /^\/(?:spire|writ)(?:\/|$)/;

/** Source: SPIFFE-ID 2.3. */
const LONGEST_ID = 2048;

/**
 * @param text untrusted
 * @throws Fault SPIFFE_ID_INVALID
 */
export function parseTrustDomain(text: string): TrustDomain {
  if (!TRUST_DOMAIN.test(text)) {
    throw invalid(`trust domain ${shown(text)}: write 1 to 255 of a-z 0-9 . - _`);
  }
  return text as TrustDomain;
}

/**
 * A SPIFFE ID that has been checked. Two are equal exactly when their strings are.
 *
 * Source: SPIFFE-ID 2. Stricter in one place: an upper-case scheme or trust domain is refused, so
 * that an ID has one spelling.
 */
export class SpiffeId {
  readonly trustDomain: TrustDomain;

  /** Empty, or `/` and segments: `/ns/web`. */
  readonly path: string;

  private constructor(trustDomain: TrustDomain, path: string) {
    this.trustDomain = trustDomain;
    this.path = path;
    if (this.toString().length > LONGEST_ID) {
      throw invalid(`SPIFFE ID longer than ${LONGEST_ID} bytes`);
    }
  }

  /**
   * @param text untrusted
   * @throws Fault SPIFFE_ID_INVALID
   */
  static parse(text: string): SpiffeId {
    if (text.length > LONGEST_ID) throw invalid(`SPIFFE ID longer than ${LONGEST_ID} bytes`);
    if (!text.startsWith(SCHEME)) {
      throw invalid(`SPIFFE ID ${shown(text)}: write spiffe://trust-domain/path`);
    }
    const [name = '', ...segments] = text.slice(SCHEME.length).split('/');
    return SpiffeId.fromSegments(parseTrustDomain(name), ...segments);
  }

  /** @throws Fault SPIFFE_ID_INVALID */
  static fromSegments(trustDomain: TrustDomain, ...segments: readonly string[]): SpiffeId {
    for (const segment of segments) {
      if (!SEGMENT.test(segment)) {
        throw invalid(
          `SPIFFE ID path segment ${shown(segment)}: write one or more of a-z A-Z 0-9 . - _`,
        );
      }
    }
    return new SpiffeId(trustDomain, segments.map((segment) => `/${segment}`).join(''));
  }

  /** Whether the ID is one that only Writ itself gives out: below `/spire` or `/writ`. */
  get isReserved(): boolean {
    return RESERVED.test(this.path);
  }

  toString(): string {
    return `${SCHEME}${this.trustDomain}${this.path}`;
  }
}

function invalid(message: string): Fault {
  return new Fault('SPIFFE_ID_INVALID', message);
}

function shown(text: string): string {
  return JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}...` : text);
}
