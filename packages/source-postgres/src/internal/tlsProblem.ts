/**
 * What a failed TLS handshake means, by Node's or OpenSSL's code: which check failed, and what to do about it.
 */

export interface TlsProblem {
  readonly what: string
  readonly hint: string
}

const authority =
  "Give the certificate of the server's authority in tls.ca (sslrootcert). If you accept an unchecked server, set tls.mode to require."

const unknownAuthority: TlsProblem = {
  what: "the server's certificate is from an authority that is not trusted",
  hint: authority
}

const selfSigned: TlsProblem = {
  what: "the server's certificate, or its authority's, is self-signed and not among the trusted ones",
  hint: authority
}

const clientCertificate: TlsProblem = {
  what: "the server refuses the client certificate",
  hint:
    "Give one that an authority of the server (its ssl_ca_file) has signed in tls.cert and tls.key, and that has not expired."
}

const ownFiles: TlsProblem = {
  what: "tls.ca, tls.cert or tls.key can't be used",
  hint: "Each is PEM text; cert and key belong together; an encrypted key needs tls.keyPassword."
}

const versions: TlsProblem = {
  what: "client and server have no version of TLS in common",
  hint:
    "Raise ssl_max_protocol_version at the server to TLSv1.2 at least, or correct the versions in the connection string."
}

const problems: Readonly<Record<string, TlsProblem>> = {
  ERR_TLS_CERT_ALTNAME_INVALID: {
    what: "the server's certificate is for another host name",
    hint:
      "Connect by a host name that the certificate holds. If its authority in tls.ca signs only your servers, tls.mode verify-ca leaves " +
      "the name out."
  },
  HOSTNAME_MISMATCH: {
    what: "the server's certificate is for another host name",
    hint: "Connect by a host name that the certificate holds."
  },
  CERT_HAS_EXPIRED: {
    what: "the server's certificate, or its authority's, has expired",
    hint: "Renew it at the server (and in tls.ca, when that holds it), and check this machine's clock."
  },
  CERT_NOT_YET_VALID: {
    what: "the server's certificate is not valid yet",
    hint: "Check this machine's clock and the server's."
  },
  CERT_REVOKED: { what: "the server's certificate has been revoked", hint: "Give the server a new certificate." },
  UNABLE_TO_GET_CRL: {
    what: "the revocation list (sslcrl) has nothing of the server's authority",
    hint: "Give its revocation list in sslcrl, or leave that out."
  },
  DEPTH_ZERO_SELF_SIGNED_CERT: selfSigned,
  SELF_SIGNED_CERT_IN_CHAIN: selfSigned,
  UNABLE_TO_GET_ISSUER_CERT: unknownAuthority,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: unknownAuthority,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: unknownAuthority,
  CERT_UNTRUSTED: unknownAuthority,
  CERT_SIGNATURE_FAILURE: unknownAuthority,
  INVALID_CA: unknownAuthority,
  ERR_SSL_UNSUPPORTED_PROTOCOL: versions,
  ERR_SSL_WRONG_VERSION_NUMBER: versions,
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: versions
}

const general: TlsProblem = {
  what: "the connection could not be protected",
  hint: "Check the server's ssl settings and log, and the options tls."
}

/** What `code` means; undefined when it isn't TLS's. */
export const tlsProblem = (code: string): TlsProblem | undefined => {
  const known = problems[code]
  if (known !== undefined) return known
  if (/ALERT_.*(CERTIFICATE|UNKNOWN_CA)|CERTIFICATE_REQUIRED/.test(code)) return clientCertificate
  if (code.startsWith("ERR_OSSL_") || code.startsWith("ERR_CRYPTO_")) return ownFiles
  if (/^(ERR_TLS_|ERR_SSL_|CERT_|UNABLE_TO_)|SELF_SIGNED/.test(code)) return general
  return undefined
}
