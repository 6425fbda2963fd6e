{{/* The Secret and the key in it with which this release tests itself: {{ include "clinserve.testKey" . | fromYaml }} */}}
{{- define "clinserve.testKey" -}}
{{- if .Values.test.keySecret.name -}}
{{- toYaml .Values.test.keySecret -}}
{{- else if .Values.demoKey.enabled -}}
{{- if .Values.secrets.keyVaultCsi.enabled -}}
name: {{ include "clinserve.fullname" . }}-test
{{- else -}}
name: {{ include "clinserve.secretName" . }}
{{- end }}
key: demo-key
{{- end -}}
{{- end -}}

{{/* "true" where the test's pods bring the demo key from the vault themselves: the driver makes the Secret for whom mounts it. */}}
{{- define "clinserve.testKeyFromVault" -}}
{{- if and .Values.secrets.keyVaultCsi.enabled .Values.demoKey.enabled (not .Values.test.keySecret.name) }}true{{ end -}}
{{- end -}}
