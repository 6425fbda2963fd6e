{{/* Where weights come from, as a volume. */}}

{{/* "true" where replicas and the prefetch job may write: then az:// and hf:// sources are downloaded there. */}}
{{- define "clinserve.weightsWritable" -}}
{{- if has .Values.weights.kind (list "claim" "ephemeral") -}}
{{- not .Values.weights.readOnly -}}
{{- else -}}
false
{{- end -}}
{{- end -}}

{{- define "clinserve.weightsClaim" -}}
{{- .Values.weights.claim.existingClaim | default (printf "%s-weights" (include "clinserve.fullname" .)) -}}
{{- end -}}

{{- define "clinserve.weightsVolume" -}}
{{- $weights := .Values.weights -}}
- name: weights
{{- if has $weights.kind (list "claim" "blob") }}
  persistentVolumeClaim: {claimName: {{ include "clinserve.weightsClaim" . }}}
{{- else if eq $weights.kind "ephemeral" }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: {{ $weights.ephemeral.storageClassName }}
        resources: {requests: {storage: {{ $weights.ephemeral.size }}}}
{{- else if eq $weights.kind "image" }}
  image: {reference: {{ $weights.image.reference }}, pullPolicy: IfNotPresent}
{{- end }}
{{- end -}}
