{{/* The Secret and the key in it with which this release tests itself: {{ include "clinserve.testKey" . | fromYaml }} */}}
{{- define "clinserve.testKey" -}}
{{- if .Values.test.keySecret.name -}}
{{- toYaml .Values.test.keySecret -}}
{{- else if .Values.demoKey.enabled -}}
name: {{ include "clinserve.secretName" . }}
key: demo-key
{{- end -}}
{{- end -}}
