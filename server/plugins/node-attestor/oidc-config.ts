import * as v from 'valibot';
import { absolutePath } from '../../../runtime/config.ts';
import { PRESETS, type PresetName } from './oidc-presets.ts';

const MAXIMUM_ISSUERS = 64;
const MAXIMUM_CLAIMS = 16;
const MAXIMUM_VALUES = 64;
const MAXIMUM_TEXT = 256;

/** What each token says of itself anew, or what is checked without a rule. */
const NO_RULE: ReadonlySet<string> = new Set(['iss', 'aud', 'exp', 'nbf', 'iat', 'jti']);

export const httpsUrl = v.pipe(
  v.string(),
  v.check(isHttps, 'an https URL without user, query and fragment'),
);

const text = v.pipe(
  v.string(),
  v.check(
    (value) => value !== '' && value.length <= MAXIMUM_TEXT && !/\p{Cc}/u.test(value),
    `a text of 1 to ${MAXIMUM_TEXT} characters`,
  ),
);

/** A claim's value has the type that its token gives it: `"17"` is not `17`. */
const claimValue = v.union(
  [text, v.boolean(), v.pipe(v.number(), v.safeInteger())],
  'a text, a whole number or true or false',
);

const claimValues = v.union(
  [
    claimValue,
    v.pipe(
      v.array(claimValue),
      v.minLength(1, 'at least one value'),
      v.maxLength(MAXIMUM_VALUES, `at most ${MAXIMUM_VALUES} values`),
    ),
  ],
  'a value, or a list of values',
);

const claimName = v.pipe(
  v.string(),
  v.check(
    (name) => /^[^\s:\p{Cc}]{1,64}$/u.test(name) && !NO_RULE.has(name),
    'the name of a claim that says who the token is of',
  ),
);

const issuerSchema = v.pipe(
  v.strictObject({
    /** A segment of the agents' IDs, and what a job asks for. */
    name: v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, 'a name of a-z 0-9 - _')),
    preset: v.optional(v.picklist(['github', 'gitlab', 'generic']), 'generic'),
    /** Exactly as its tokens name it; the preset's if left out. */
    issuer: v.optional(httpsUrl),
    audience: text,
    /** Where its keys are; by the issuer's own metadata if neither is there. */
    jwks_file: v.optional(absolutePath),
    jwks_url: v.optional(httpsUrl),
    /** PEM of the authorities that prove the issuer's web server; the Web PKI's if left out. */
    ca_file: v.optional(absolutePath),
    /** Each must be in the token, with this value or one of these. */
    claims: v.pipe(
      v.record(claimName, claimValues),
      v.check(
        (claims) => Object.keys(claims).length >= 1 && Object.keys(claims).length <= MAXIMUM_CLAIMS,
        `1 to ${MAXIMUM_CLAIMS} claims that a token must have`,
      ),
    ),
    /**
     * `token`: each attestation is an agent of its own, as fits jobs that run side by side; entries
     * hang on a node alias. `claims`: one agent, named by the claims of the rules; a newer attestation
     * of the same claims replaces an older one.
     */
    agent_per: v.optional(v.picklist(['token', 'claims']), 'token'),
  }),
  v.check(
    ({ jwks_file: file, jwks_url: url }) => file === undefined || url === undefined,
    'jwks_file or jwks_url, not both',
  ),
  v.check(
    ({ issuer, preset }) => issuer !== undefined || PRESETS[preset].issuer !== undefined,
    'an issuer, which the generic preset does not know',
  ),
  v.check(
    ({ issuer, preset }) => issuer === undefined || presetOf(issuer, preset) === preset,
    ({ input }) => `preset: ${presetOf(input.issuer ?? '', input.preset)} for this issuer`,
  ),
  v.check(
    ({ preset, claims }) => namesImmutable(preset, claims),
    ({ input: { preset } }) =>
      `claims with ${PRESETS[preset].immutable.join(' or ')}, as a text: names can be given up and taken by others, these numbers cannot`,
  ),
);

export const oidcSchema = v.strictObject({
  issuers: v.pipe(
    v.array(issuerSchema),
    v.minLength(1, 'at least one issuer'),
    v.maxLength(MAXIMUM_ISSUERS, `at most ${MAXIMUM_ISSUERS} issuers`),
    v.check(
      (issuers) => new Set(issuers.map(({ name }) => name)).size === issuers.length,
      'issuers of different names',
    ),
  ),
});

export type OidcConfig = v.InferOutput<typeof oidcSchema>;
export type OidcIssuerConfig = OidcConfig['issuers'][number];
export type ClaimValue = string | number | boolean;

/** An issuer that a preset knows must not be judged by a laxer one. */
function presetOf(issuer: string, configured: PresetName): PresetName {
  const { hostname } = new URL(issuer);
  const known = Object.entries(PRESETS).find(([, { hosts }]) => hosts.includes(hostname));
  return known === undefined ? configured : (known[0] as PresetName);
}

function namesImmutable(
  preset: PresetName,
  claims: Readonly<Record<string, ClaimValue | ClaimValue[]>>,
): boolean {
  const { immutable } = PRESETS[preset];
  if (immutable.length === 0) return true;
  const named = immutable.filter((name) => Object.hasOwn(claims, name));
  return (
    named.length > 0 &&
    named.every((name) => [claims[name]].flat().every((value) => typeof value === 'string'))
  );
}

function isHttps(value: string): boolean {
  if (!URL.canParse(value) || value.length > 1024) return false;
  const { protocol, username, password, search, hash } = new URL(value);
  return protocol === 'https:' && username + password + search + hash === '';
}
