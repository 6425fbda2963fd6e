{{/* Who sees which secret. This is the only place that says it; tests/helm/test_secrets.py has the table to compare with. */}}

{{/* The names in the Secret, as `clinserve secrets` writes them (tested). In a vault they have `secrets.prefix` before them. */}}
{{- define "clinserve.secretKeys" -}}
- pepper
- engine-secret
- cache-salt
- content-secret
- audit-secret
- audit-signing-key
- admin-key
- auth_token
{{- if .Values.secrets.databasePassword }}
- database-password
{{- end }}
{{- if .Values.secrets.redisPassword }}
- redis-password
{{- end }}
{{- if .Values.demoKey.enabled }}
- demo-key
{{- end }}
{{- end -}}

{{/* What the pods of one role are given, as a list: {{ include "clinserve.secretsOf" (list . "engine") | fromYamlArray }}
     An engine runs weights and prompts of others: it has what opens its own door, and nothing that reads content, makes
     keys or signs evidence. Ray's head builds applications and holds none. KubeRay itself gives Ray's token to Ray's pods. */}}
{{- define "clinserve.secretsOf" -}}
{{- $values := (index . 0).Values -}}
{{- $role := index . 1 -}}
{{- $database := and $values.secrets.databasePassword (include "clinserve.usesDatabase" (index . 0)) -}}
{{- $redis := and $values.secrets.redisPassword (include "clinserve.usesRedis" (index . 0)) -}}
{{- $names := list -}}
{{- if eq $role "gateway" -}}
{{- $names = list "pepper" "engine-secret" "cache-salt" "content-secret" "audit-secret" "audit-signing-key" -}}
{{- else if eq $role "engine" -}}
{{- $names = list "engine-secret" -}}
{{- else if eq $role "prepare" -}}
{{- $names = list "pepper" "audit-secret" "audit-signing-key" "admin-key" -}}
{{- if $values.demoKey.enabled }}{{ $names = append $names "demo-key" }}{{ end -}}
{{- end -}}
{{- if and $database (has $role (list "gateway" "prepare")) -}}{{- $names = append $names "database-password" -}}{{- end -}}
{{- if and $redis (eq $role "gateway") -}}{{- $names = append $names "redis-password" -}}{{- end -}}
{{- toYaml $names -}}
{{- end -}}

{{/* Where the product finds them: {{ include "clinserve.secretEnv" (list . "engine") }}. The demo key is configuration. */}}
{{- define "clinserve.secretEnv" -}}
{{- range include "clinserve.secretsOf" . | fromYamlArray }}
{{- if ne . "demo-key" }}
- {name: CLINSERVE_{{ . | upper | replace "-" "_" }}_FILE, value: /etc/clinserve/secrets/{{ . }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* The SecretProviderClass of a role, as the end of its name. Ray's head and the tests mount one so that the driver makes a
     Secret of it: KubeRay and the tests' variables want one. */}}
{{- define "clinserve.secretClass" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- if $root.Values.secrets.keyVaultCsi.enabled -}}
{{- if or (eq $role "head") (include "clinserve.secretsOf" . | fromYamlArray) -}}{{ $role }}
{{- else if and (has $role (list "test" "load-test")) (include "clinserve.testKeyFromVault" $root) -}}test
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "clinserve.secretsMount" -}}
{{- if or (include "clinserve.secretClass" .) (include "clinserve.secretsOf" . | fromYamlArray) -}}
- {name: secrets, mountPath: /etc/clinserve/secrets, readOnly: true}
{{- end -}}
{{- end -}}

{{/* Item by item: a Secret that is mounted whole shows a pod everything that is ever put into it. */}}
{{- define "clinserve.secretsVolume" -}}
{{- $root := index . 0 -}}
{{- $names := include "clinserve.secretsOf" . | fromYamlArray -}}
{{- $class := include "clinserve.secretClass" . -}}
{{- if $class -}}
- name: secrets
  csi:
    driver: secrets-store.csi.k8s.io
    readOnly: true
    volumeAttributes: {secretProviderClass: {{ include "clinserve.fullname" $root }}-{{ $class }}}
{{- else if $names -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ include "clinserve.secretName" $root }}
          items:
            {{- range without $names "admin-key" }}
            - {key: {{ . }}, path: {{ . }}}
            {{- end }}
      {{- if has "admin-key" $names }}
      - secret: # an installation may do without
          name: {{ include "clinserve.secretName" $root }}
          optional: true
          items: [{key: admin-key, path: admin-key}]
      {{- end }}
{{- end -}}
{{- end -}}
