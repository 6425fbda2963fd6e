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
