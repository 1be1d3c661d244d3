/**
 * What is known of the issuers of the large CI systems.
 *
 * Names of repositories and projects can be given up and registered by somebody else; their numbers
 * cannot. And a pull request runs code that nobody has agreed to yet, often with the same issuer and
 * repository as a release (threats S11).
 *
 * - `github`: GitHub Actions, `https://token.actions.githubusercontent.com`; of GitHub Enterprise
 *   Server the `issuer` is set. Claims: `repository_id`, `repository_owner_id`, `ref`, `environment`,
 *   `event_name`, `job_workflow_ref` and more. A job mints a token for any audience, so it carries the
 *   nonce.
 * - `gitlab`: GitLab CI, `https://gitlab.com` or one's own. Claims: `project_id`, `namespace_id`,
 *   `ref`, `ref_type`, `ref_protected`, `environment`, `pipeline_source` and more. A job's token is
 *   made when it starts, so it has to be used within two minutes, once.
 * - `generic`: any other issuer.
 */
export type PresetName = 'github' | 'gitlab' | 'generic';

type Claims = Readonly<Record<string, unknown>>;

export interface Preset {
  /** Used where the configuration names none. */
  readonly issuer?: string;
  /** Hosts whose tokens are judged by this preset and by no other. */
  readonly hosts: readonly string[];
  /** Of which the rules must name one, if there are any. */
  readonly immutable: readonly string[];
  /** Claims that every token has, as texts. */
  readonly required: readonly string[];
  /** The claims by which a token tells that it runs unreviewed code; none if it does not. */
  unreviewed(claims: Claims): readonly string[];
}

export const PRESETS: Readonly<Record<PresetName, Preset>> = {
  github: {
    issuer: 'https://token.actions.githubusercontent.com',
    hosts: ['token.actions.githubusercontent.com'],
    immutable: ['repository_id', 'repository_owner_id'],
    required: ['event_name', 'ref'],
    unreviewed: (claims) => naming(claims, { event_name: /^pull_request/, ref: /^refs\/pull\// }),
  },
  gitlab: {
    issuer: 'https://gitlab.com',
    hosts: ['gitlab.com'],
    immutable: ['project_id', 'namespace_id'],
    required: ['pipeline_source', 'ref'],
    unreviewed: (claims) =>
      naming(claims, {
        pipeline_source: /^(?:merge_request_event|external_pull_request_event)$/,
        ref: /^refs\/(?:merge-requests|pull)\//,
        ref_path: /^refs\/(?:merge-requests|pull)\//,
      }),
  },
  generic: { hosts: [], immutable: [], required: [], unreviewed: () => [] },
};

function naming(claims: Claims, patterns: Readonly<Record<string, RegExp>>): string[] {
  return Object.entries(patterns).flatMap(([name, pattern]) => {
    const value = Object.hasOwn(claims, name) ? claims[name] : undefined;
    return typeof value === 'string' && pattern.test(value) ? [name] : [];
  });
}
